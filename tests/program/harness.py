"""Runs the whole program without an engine: every registration is recorded, with real URNs and all resource options.

What the engine does in between - checks, defaults, autonaming - is not here; the provider's answer is: in an `up` the
outputs that Google would compute, in a preview none, so that they are unknown.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import runpy
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pulumi
import yaml
from google.protobuf import json_format
from pulumi.runtime import mocks, rpc, settings
from pulumi.runtime.stack import run_in_stack
from typing_extensions import override

from tests.program.cloud import computed

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = "tensorrt-fleet"
STACKS = ("dev", "small", "prod", "local")
UNKNOWN = "<known after the up>"

_LOGGER = logging.getLogger(__name__)
_STACK_TYPE = "pulumi:pulumi:Stack"
_TIMEOUT_S = 30
Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """One registered resource. `options` holds the ones that differ from their defaults."""

    urn: str
    type: str
    name: str
    inputs: dict[str, Any]
    options: dict[str, Any]

    @property
    def parents(self) -> tuple[str, ...]:
        """Types from the outermost parent to this resource."""
        return tuple(self.urn.split("::")[2].split("$"))


@dataclass(slots=True)
class Graph:
    """What one run of the program registered."""

    resources: list[Resource] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    hooks: dict[str, pulumi.ResourceHook] = field(default_factory=dict)
    """By name; nothing runs them but a test."""

    def of_type(self, suffix: str) -> list[Resource]:
        """Resources whose type ends in `suffix`, such as `:Bucket`."""
        return [resource for resource in self.resources if resource.type.endswith(suffix)]

    def one(self, suffix: str, name: str | None = None) -> Resource:
        """The only resource of that type (and name)."""
        (found,) = (r for r in self.of_type(suffix) if name in (None, r.name))
        return found

    @property
    def custom(self) -> dict[str, Resource]:
        """Resources of the provider by URN, components left out."""
        return {resource.urn: resource for resource in self.resources if resource.type.startswith("gcp:")}


def stack_config(stack: str, *, repository: Path = REPOSITORY) -> Config:
    """Configuration of a stack file by full key."""
    config = yaml.safe_load((repository / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8"))["config"]
    assert isinstance(config, dict)
    return config


def as_passed(config: Mapping[str, Any]) -> dict[str, str]:
    """The configuration as the engine passes it: objects as JSON, text as it is."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}


def run_program(
    config: Mapping[str, Any], *, stack: str = "dev", preview: bool = False, repository: Path = REPOSITORY
) -> Graph:
    """Run the program of `repository` with a configuration and return what it registered.

    Runs of this repository's own program are remembered: treat the graph as read-only. Raises what the program raises.
    """
    if repository == REPOSITORY:
        return _remembered(json.dumps(as_passed(config), sort_keys=True), stack, preview)
    return _run(as_passed(config), stack=stack, preview=preview, repository=repository)


@cache
def _remembered(config: str, stack: str, preview: bool) -> Graph:
    return _run(json.loads(config), stack=stack, preview=preview, repository=REPOSITORY)


def _run(config: dict[str, str], *, stack: str, preview: bool, repository: Path) -> Graph:
    monitor = _Monitor(_Provider(preview=preview))

    def program() -> None:
        runpy.run_path(str(repository / "__main__.py"), run_name="__main__")

    with _fresh_runtime(config, stack=stack, preview=preview, monitor=monitor) as loop, contextlib.chdir(repository):
        loop.run_until_complete(asyncio.wait_for(run_in_stack(program), _TIMEOUT_S))
    monitor.graph.resources.sort(key=lambda resource: resource.urn)
    return monitor.graph


@contextlib.contextmanager
def _fresh_runtime(
    config: dict[str, str], *, stack: str, preview: bool, monitor: _Monitor
) -> Iterator[asyncio.AbstractEventLoop]:
    """Pulumi's process-wide state, made anew before and left empty after.

    The order matters: with a loop that is set after the mocks, or with tasks of an older loop, the SDK waits for ever.
    """
    settings.reset_options()
    settings.SETTINGS.outputs.clear()
    pulumi.runtime.set_all_config(config)
    warnings = _Warnings(monitor.graph.warnings)
    _LOGGER.addHandler(warnings)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        mocks.set_mocks(
            monitor.mocks,
            project=PROGRAM,
            stack=stack,
            preview=preview,
            monitor=monitor,
            organization="organization",
            logger=_LOGGER,
        )
        settings.SETTINGS.callbacks = _Hooks(monitor.graph.hooks)
        settings.set_root_resource(None)  # type: ignore[arg-type] # run_in_stack refuses to make a second one
        monitor.graph.resources.clear()
        yield loop
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        asyncio.set_event_loop(None)
        settings.reset_options()
        _LOGGER.removeHandler(warnings)


class _Provider(mocks.Mocks):
    """Answers registrations: with computed outputs in an `up`, with the inputs alone in a preview."""

    def __init__(self, *, preview: bool) -> None:
        self._preview = preview

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        if self._preview:
            return None, args.inputs
        id_, outputs = computed(args.typ, args.name, args.inputs)
        return id_, {**args.inputs, **outputs}

    def call(self, args: mocks.MockCallArgs) -> NoReturn:
        raise AssertionError(f"the program asks the cloud in preview: {args.token}")


class _Monitor(mocks.MockMonitor):
    """MockMonitor that keeps whole requests, makes the engine's URNs and refuses a URN twice."""

    def __init__(self, provider: _Provider) -> None:
        super().__init__(provider)
        self.graph = Graph()
        self._urns: set[str] = set()
        self._lock = threading.Lock()

    def make_urn(self, parent: str, type_: str, name: str) -> str:
        parent_type = parent.split("::")[2] if parent else _STACK_TYPE
        qualified = type_ if parent_type == _STACK_TYPE else f"{parent_type}${type_}"
        return f"urn:pulumi:{settings.get_stack()}::{settings.get_project()}::{qualified}::{name}"

    @override
    def RegisterResource(self, request: Any) -> Any:
        urn = self.make_urn(request.parent, request.type, request.name)
        if request.type != _STACK_TYPE:
            with self._lock:
                if urn in self._urns:
                    raise AssertionError(f"two resources have the URN {urn}")
                self._urns.add(urn)
                self.graph.resources.append(_recorded(urn, request))
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]

    @override
    def RegisterResourceOutputs(self, request: Any) -> Any:
        if request.urn.split("::")[2] == _STACK_TYPE:
            self.graph.outputs.update(_plain(json_format.MessageToDict(request.outputs)))
        return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call]


class _Hooks:
    """Takes the place of the server through which the engine calls hooks."""

    def __init__(self, hooks: dict[str, pulumi.ResourceHook]) -> None:
        self._hooks = hooks

    def register_resource_hook(self, hook: pulumi.ResourceHook) -> None:
        if hook.name in self._hooks:
            raise AssertionError(f"two hooks have the name {hook.name}")
        self._hooks[hook.name] = hook


class _Warnings(logging.Handler):
    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append(record.getMessage())


def _recorded(urn: str, request: Any) -> Resource:
    """A registration as the engine gets it: what is left of it once references in its inputs are set aside."""
    by_property = {urn for dependencies in request.propertyDependencies.values() for urn in dependencies.urns}
    options = {
        "additionalSecretOutputs": list(request.additionalSecretOutputs),
        "aliases": [json_format.MessageToDict(alias) for alias in request.aliases],
        "customTimeouts": json_format.MessageToDict(request.customTimeouts),
        "deleteBeforeReplace": request.deleteBeforeReplace,
        "dependsOn": sorted(set(request.dependencies) - by_property),
        "hooks": json_format.MessageToDict(request.hooks),
        "ignoreChanges": list(request.ignoreChanges),
        "import": request.importId,
        "protect": request.protect,
        "provider": request.provider,
        "replaceOnChanges": list(request.replaceOnChanges),
        "retainOnDelete": request.retainOnDelete,
    }
    return Resource(
        urn=urn,
        type=request.type,
        name=request.name,
        inputs=_plain(json_format.MessageToDict(request.object)),
        options={name: value for name, value in options.items() if value},
    )


def _plain(value: Any) -> Any:
    """A wire value as Python: unknowns labelled, whole numbers as int, assets by their path."""
    if isinstance(value, dict):
        if value.get(rpc._special_sig_key) == rpc._special_asset_sig:
            return {"asset": value["path"]}
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if value == rpc.UNKNOWN:
        return UNKNOWN
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
