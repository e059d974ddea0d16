"""`storage`: where artifacts are kept."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from components.settings.section import Refusal, Section, refuse

BUCKET_RULES = "3 to 63 lower-case letters, digits and hyphens, a letter or digit at both ends, without `google`"


def valid_bucket_name(name: str) -> bool:
    """Whether Cloud Storage takes the name for a bucket. Names with dots need a verified domain and are left out."""
    return bool(re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", name)) and "google" not in name and name[:4] != "goog"


def _bucket(name: str) -> str:
    if not valid_bucket_name(name):
        raise refuse(Refusal(name, BUCKET_RULES, "name an existing bucket without gs:// and slashes"))
    return name


class StorageSettings(Section):
    """Buckets."""

    artifact_bucket: Annotated[str, AfterValidator(_bucket)] | None = Field(
        default=None,
        description="existing bucket for artifacts, shared between stacks, instead of one of the stack's own",
        examples=["my-model-registry"],
    )
    protect: bool = Field(
        default=False,
        description="whether `pulumi destroy` refuses to delete the stack's buckets, or leaves them if told so",
        examples=[True],
    )
    force_destroy: bool = Field(
        default=False, description="whether `pulumi destroy` also deletes what is in the buckets", examples=[True]
    )
