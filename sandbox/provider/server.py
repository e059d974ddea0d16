"""The provider's side of the engine's protocol: Pulumi attaches to it instead of starting a plugin.

Source: Pulumi's provider protocol (proto/pulumi/provider.proto of v3.259.0). The servicer translates; what happens is
sandbox.provider.resources.
"""

# ruff: noqa: N802 - the protocol names its methods
from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
from google.protobuf import empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from sandbox.network.addresses import Addresses
from sandbox.provider.check import Failure, Naming
from sandbox.provider.cloud import BucketBackend, Cloud, ProviderConfig
from sandbox.provider.diff import Change, PropertyChange
from sandbox.provider.errors import CloudError
from sandbox.provider.invokes import invoke
from sandbox.provider.resources import Resources, UnmodelledTypeError
from sandbox.provider.schema import PROVIDER_VERSION
from sandbox.provider.wire import decode, encode
from sandbox.settings import SandboxSettings
from sandbox.storage.errors import StorageError
from sandbox.store import Store

_HOST: Final = "127.0.0.1"
"""Where the engine looks for a provider that it is told to attach to."""
_MESSAGE_LIMIT: Final = 400 * 1024 * 1024
"""The engine's own limit (sdk/go/common/util/rpcutil)."""
_CONFIG: Final = ("project", "region", "zone", "defaultLabels")
_IGNORED_CONFIG: Final = frozenset({"version", "pluginDownloadURL", "addPulumiAttributionLabel"})

Message = TypeVar("Message")


class ProviderServer:
    """Serves the provider on a port of the loopback interface; `port` is set once it has started."""

    def __init__(
        self,
        settings: SandboxSettings,
        store: Store,
        addresses: Addresses,
        buckets: BucketBackend,
        *,
        program: Path,
        port: int = 0,
    ) -> None:
        """`program` is the folder of the Pulumi program, where relative asset paths start; port 0 takes a free one."""
        self.port = port
        self._cloud = Cloud(settings=settings, store=store, addresses=addresses, buckets=buckets, program=program)
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        limits = [("grpc.max_receive_message_length", _MESSAGE_LIMIT), ("grpc.max_send_message_length", _MESSAGE_LIMIT)]
        server = grpc.aio.server(options=limits)
        provider_pb2_grpc.add_ResourceProviderServicer_to_server(Provider(self._cloud), server)
        self.port = server.add_insecure_port(f"{_HOST}:{self.port}")
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Refuse new calls and give running ones a moment."""
        if self._server is not None:
            await self._server.stop(grace=2.0)
            self._server = None


class Provider(provider_pb2_grpc.ResourceProviderServicer):
    """All provider instances of all programs: the engine opens one connection for each, which tells them apart."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._resources = Resources(cloud)
        self._configs: dict[str, ProviderConfig] = {}

    async def Handshake(
        self, request: provider_pb2.ProviderHandshakeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> provider_pb2.ProviderHandshakeResponse:
        """Plain values only: the engine keeps secrets, outputs and references to itself."""
        return provider_pb2.ProviderHandshakeResponse(supports_autonaming_configuration=True)

    async def Attach(
        self, request: plugin_pb2.PluginAttach, context: grpc.aio.ServicerContext[Any, Any]
    ) -> empty_pb2.Empty:
        """Nothing of the engine is needed."""
        return empty_pb2.Empty()

    async def GetPluginInfo(
        self, request: empty_pb2.Empty, context: grpc.aio.ServicerContext[Any, Any]
    ) -> plugin_pb2.PluginInfo:
        """The version that the table describes."""
        return plugin_pb2.PluginInfo(version=PROVIDER_VERSION)

    async def CheckConfig(
        self, request: provider_pb2.CheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> provider_pb2.CheckResponse:
        """Settings that the sandbox does not have are refused by name."""
        known = {*_CONFIG, *_IGNORED_CONFIG}
        failures = [
            provider_pb2.CheckFailure(
                property=key,
                reason=f"the sandbox's provider has no setting {key}; it has {', '.join(sorted(_CONFIG))}",
            )
            for key in decode(request.news)
            if key not in known
        ]
        return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    async def DiffConfig(
        self, request: provider_pb2.DiffRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> provider_pb2.DiffResponse:
        """A changed setting is the provider's own affair."""
        changed = decode(request.old_inputs) != decode(request.news)
        kinds = provider_pb2.DiffResponse
        return provider_pb2.DiffResponse(changes=kinds.DIFF_SOME if changed else kinds.DIFF_NONE)

    async def Configure(
        self, request: provider_pb2.ConfigureRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> provider_pb2.ConfigureResponse:
        """Remember the settings for this connection."""
        args = decode(request.args)
        labels = args.get("defaultLabels") or {}
        self._configs[context.peer()] = ProviderConfig(
            project=_text(args.get("project")) or self._cloud.settings.project,
            region=_text(args.get("region")),
            zone=_text(args.get("zone")),
            default_labels=json.loads(labels) if isinstance(labels, str) else labels,
        )
        return provider_pb2.ConfigureResponse(supportsPreview=True, supports_autonaming_configuration=True)

    async def Check(
        self, request: provider_pb2.CheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> provider_pb2.CheckResponse:
        """Checked inputs with defaults, or failures."""
        options = request.autonaming
        modes = provider_pb2.CheckRequest.AutonamingOptions
        configured = request.HasField("autonaming")
        naming = Naming(
            logical=request.name,
            seed=request.randomSeed,
            proposed=options.proposed_name if configured else "",
            disabled=configured and options.mode == modes.DISABLE,
        )
        try:
            inputs, failures = self._resources.check(request.type, decode(request.news), decode(request.olds), naming)
        except UnmodelledTypeError as error:
            inputs, failures = decode(request.news), [Failure("", str(error))]
        return provider_pb2.CheckResponse(
            inputs=encode(inputs),
            failures=[provider_pb2.CheckFailure(property=one.path, reason=one.reason) for one in failures],
        )

    async def Diff(
        self, request: provider_pb2.DiffRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> provider_pb2.DiffResponse:
        """Changes by property."""
        found, delete_first = await self._answered(
            context,
            lambda: self._resources.diff(
                request.type, decode(request.old_inputs), decode(request.olds), decode(request.news)
            ),
        )
        kinds = provider_pb2.DiffResponse
        return provider_pb2.DiffResponse(
            changes=kinds.DIFF_SOME if found else kinds.DIFF_NONE,
            diffs=sorted({one.root for one in found}),
            replaces=sorted({one.root for one in found if one.replaces}),
            deleteBeforeReplace=delete_first,
            detailedDiff={one.path: _property_diff(one) for one in found},
            hasDetailedDiff=True,
        )

    async def Create(
        self, request: provider_pb2.CreateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> provider_pb2.CreateResponse:
        """Create, or say what creation would give."""
        inputs, config = decode(request.properties), self._config(context)
        if request.preview:
            planned = await self._answered(context, lambda: self._resources.plan_creation(request.type, inputs, config))
            return provider_pb2.CreateResponse(properties=encode(planned))
        identifier, state = await self._awaited(
            context, f"creating {request.name}", self._resources.create(request.type, request.urn, inputs, config)
        )
        return provider_pb2.CreateResponse(id=identifier, properties=encode(state))

    async def Read(
        self, request: provider_pb2.ReadRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> provider_pb2.ReadResponse:
        """Live state; an empty id if the resource is gone."""
        found = await self._answered(
            context,
            lambda: self._resources.read(request.type, request.id, decode(request.inputs)),
        )
        if found is None:
            return provider_pb2.ReadResponse()
        state, inputs = found
        return provider_pb2.ReadResponse(id=request.id, properties=encode(state), inputs=encode(inputs))

    async def Update(
        self, request: provider_pb2.UpdateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> provider_pb2.UpdateResponse:
        """Update, or say what it would give."""
        old_inputs, news = decode(request.old_inputs), decode(request.news)
        if request.preview:
            planned = await self._answered(
                context, lambda: self._resources.plan_update(request.type, old_inputs, decode(request.olds), news)
            )
            return provider_pb2.UpdateResponse(properties=encode(planned))
        state = await self._awaited(
            context,
            f"updating {request.name}",
            self._resources.update(
                request.type,
                request.urn,
                request.id,
                old_inputs=old_inputs,
                inputs=news,
                config=self._config(context),
            ),
        )
        return provider_pb2.UpdateResponse(properties=encode(state))

    async def Delete(
        self, request: provider_pb2.DeleteRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> empty_pb2.Empty:
        """Delete."""
        await self._awaited(context, f"deleting {request.name}", self._resources.delete(request.type, request.id))
        return empty_pb2.Empty()

    async def Invoke(
        self, request: provider_pb2.InvokeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> provider_pb2.InvokeResponse:
        """Answer a function that the sandbox models."""
        result = await self._answered(
            context, lambda: invoke(request.tok, decode(request.args), self._config(context), self._cloud)
        )
        response = provider_pb2.InvokeResponse()
        getattr(response, "return").CopyFrom(encode(result))
        return response

    async def Cancel(self, request: empty_pb2.Empty, context: grpc.aio.ServicerContext[Any, Any]) -> empty_pb2.Empty:
        """An interrupted run: what is under way ends by itself."""
        return empty_pb2.Empty()

    def _config(self, context: grpc.aio.ServicerContext[Any, Any]) -> ProviderConfig:
        return self._configs.get(context.peer()) or ProviderConfig(project=self._cloud.settings.project)

    async def _answered(self, context: grpc.aio.ServicerContext[Any, Any], answer: Callable[[], Message]) -> Message:
        try:
            return answer()
        except (UnmodelledTypeError, CloudError, ValueError) as error:
            return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    async def _awaited(
        self, context: grpc.aio.ServicerContext[Any, Any], what: str, answer: Awaitable[Message]
    ) -> Message:
        try:
            return await answer
        except (UnmodelledTypeError, CloudError, StorageError, ValueError, OSError) as error:
            return await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"error {what}: {error}")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _property_diff(change: PropertyChange) -> provider_pb2.PropertyDiff:
    kinds = provider_pb2.PropertyDiff
    kind = {
        (Change.ADD, False): kinds.ADD,
        (Change.ADD, True): kinds.ADD_REPLACE,
        (Change.DELETE, False): kinds.DELETE,
        (Change.DELETE, True): kinds.DELETE_REPLACE,
        (Change.UPDATE, False): kinds.UPDATE,
        (Change.UPDATE, True): kinds.UPDATE_REPLACE,
    }[change.change, change.replaces]
    return provider_pb2.PropertyDiff(kind=kind, inputDiff=True)
