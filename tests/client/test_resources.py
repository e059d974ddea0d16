"""Every field that the client reads is one of Google's."""

from __future__ import annotations

import inspect

import pytest

from client import resources
from tests.client.discovery import schema_at

MODELS = [
    model
    for _, model in inspect.getmembers(resources, inspect.isclass)
    if issubclass(model, resources.Resource) and model is not resources.Resource
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: str(model.__name__))
def test_fields_are_in_googles_discovery_document(model: type[resources.Resource]) -> None:
    schema = schema_at(model.api, model.schema_name)
    unknown = {field.alias for field in model.model_fields.values()} - set(schema["properties"])
    assert not unknown


def test_there_are_models_to_check() -> None:
    assert len(MODELS) > 15
