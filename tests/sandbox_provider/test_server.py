"""The engine's protocol over a real connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime import rpc
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from sandbox.provider.schema import PROVIDER_VERSION
from sandbox.provider.server import ProviderServer
from sandbox.provider.wire import UNKNOWN, decode, encode
from tests.sandbox_provider.world import ADDRESS, NETWORK, PROJECT, ROUTER, TEMPLATE, World, minimal, urn

if TYPE_CHECKING:
    Stub = provider_pb2_grpc.ResourceProviderAsyncStub


@pytest.fixture
async def server(world: World) -> AsyncIterator[ProviderServer]:
    made = ProviderServer(
        world.cloud.settings, world.store, world.cloud.addresses, world.buckets, program=world.cloud.program
    )
    await made.start()
    yield made
    await made.stop()


def connect(server: ProviderServer) -> tuple[grpc.aio.Channel, Stub]:
    # Channels of one process share connections unless told not to; the engine's provider instances never do.
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=[("grpc.use_local_subchannel_pool", 1)])
    return channel, cast("Stub", provider_pb2_grpc.ResourceProviderStub(channel))


@pytest.fixture
async def provider(server: ProviderServer) -> AsyncIterator[Stub]:
    channel, stub = connect(server)
    await configure(stub, project=PROJECT, region="us-central1")
    yield stub
    await channel.close()


async def configure(stub: Stub, **settings: object) -> provider_pb2.ConfigureResponse:
    answer: provider_pb2.ConfigureResponse = await stub.Configure(provider_pb2.ConfigureRequest(args=encode(settings)))
    return answer


async def check(stub: Stub, token: str, **changes: object) -> provider_pb2.CheckResponse:
    answer: provider_pb2.CheckResponse = await stub.Check(
        provider_pb2.CheckRequest(
            urn=urn(token, "thing"),
            name="thing",
            type=token,
            news=encode(minimal(token, **changes)),
            randomSeed=bytes(range(32)),
        )
    )
    return answer


async def create(stub: Stub, token: str, **changes: object) -> provider_pb2.CreateResponse:
    inputs = (await check(stub, token, **changes)).inputs
    answer: provider_pb2.CreateResponse = await stub.Create(
        provider_pb2.CreateRequest(urn=urn(token, "thing"), name="thing", type=token, properties=inputs)
    )
    return answer


async def test_it_introduces_itself(provider: Stub) -> None:
    handshake = await provider.Handshake(provider_pb2.ProviderHandshakeRequest())
    assert handshake.supports_autonaming_configuration
    assert not handshake.accept_secrets
    await provider.Attach(plugin_pb2.PluginAttach(address="127.0.0.1:1"))
    info = await provider.GetPluginInfo(empty_pb2.Empty())
    assert info.version == PROVIDER_VERSION
    assert (await configure(provider, project=PROJECT)).supportsPreview


async def test_a_resource_lives_through_the_protocol(provider: Stub) -> None:
    made = await create(provider, ADDRESS)
    state = decode(made.properties)
    read = await provider.Read(provider_pb2.ReadRequest(id=made.id, type=ADDRESS, urn=urn(ADDRESS, "thing")))
    assert decode(read.properties)["address"] == state["address"]
    await provider.Delete(provider_pb2.DeleteRequest(id=made.id, type=ADDRESS, name="thing"))
    gone = await provider.Read(provider_pb2.ReadRequest(id=made.id, type=ADDRESS, urn=urn(ADDRESS, "thing")))
    assert gone.id == ""


async def test_a_plan_gives_unknown_outputs_and_changes_nothing(provider: Stub, world: World) -> None:
    inputs = (await check(provider, ADDRESS)).inputs
    planned = await provider.Create(
        provider_pb2.CreateRequest(name="thing", type=ADDRESS, properties=inputs, preview=True)
    )
    assert planned.id == ""
    assert planned.properties.fields["selfLink"].string_value == rpc.UNKNOWN
    assert list(world.store.items("resource")) == []


async def test_a_difference_is_told_by_property(provider: Stub) -> None:
    old = (await check(provider, TEMPLATE)).inputs
    new = (await check(provider, TEMPLATE, machineType="n1-standard-8", disks=[{"sourceImage": "other"}])).inputs
    answer = await provider.Diff(
        provider_pb2.DiffRequest(type=TEMPLATE, old_inputs=old, olds=encode({}), news=new, id="x")
    )
    kinds = provider_pb2.PropertyDiff
    assert answer.changes == provider_pb2.DiffResponse.DIFF_SOME
    assert {path: one.kind for path, one in answer.detailedDiff.items()} == {
        "machineType": kinds.UPDATE_REPLACE,
        "disks[0].sourceImage": kinds.UPDATE_REPLACE,
    }
    assert list(answer.replaces) == ["disks", "machineType"]
    assert answer.deleteBeforeReplace
    same = await provider.Diff(
        provider_pb2.DiffRequest(type=TEMPLATE, old_inputs=old, olds=encode({}), news=old, id="x")
    )
    assert same.changes == provider_pb2.DiffResponse.DIFF_NONE


async def test_an_update_answers_the_new_state(provider: Stub) -> None:
    made = await create(provider, ADDRESS, labels={"a": "1"})
    old = (await check(provider, ADDRESS, labels={"a": "1"})).inputs
    new = (await check(provider, ADDRESS, labels={"a": "2"})).inputs
    request = provider_pb2.UpdateRequest(
        id=made.id,
        type=ADDRESS,
        name="thing",
        urn=urn(ADDRESS, "thing"),
        old_inputs=old,
        olds=made.properties,
        news=new,
    )
    assert decode((await provider.Update(request)).properties)["labels"] == {"a": "2"}


async def test_refusals_reach_the_engine_in_the_clouds_words(provider: Stub) -> None:
    await create(provider, NETWORK)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await create(provider, NETWORK)
    assert refusal.value.details() == (
        f"error creating thing: googleapi: Error 409: The resource 'projects/{PROJECT}/global/networks/the-network' "
        "already exists, alreadyExists"
    )


async def test_an_unmodelled_type_is_a_failure_of_the_check(provider: Stub) -> None:
    answer = await provider.Check(provider_pb2.CheckRequest(type="gcp:sql/user:User", name="x", news=encode({})))
    assert "the sandbox does not model gcp:sql/user:User" in answer.failures[0].reason


async def test_an_unmodelled_function_names_itself(provider: Stub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await provider.Invoke(provider_pb2.InvokeRequest(tok="gcp:sql/getUser:getUser"))
    assert "does not model the function gcp:sql/getUser:getUser; it models gcp:organizations" in (
        refusal.value.details() or ""
    )


async def test_modelled_functions_answer(provider: Stub) -> None:
    tokens = ("getClientConfig", "getProject")
    answers = []
    for name in tokens:
        reply = await provider.Invoke(provider_pb2.InvokeRequest(tok=f"gcp:organizations/{name}:{name}"))
        answers.append(decode(getattr(reply, "return")))
    assert answers[0]["region"] == "us-central1"
    assert answers[1]["number"] == "123456789012"


async def test_an_unknown_setting_of_the_provider_is_refused(provider: Stub) -> None:
    answer = await provider.CheckConfig(provider_pb2.CheckRequest(news=encode({"project": "p", "scopes": "x"})))
    assert [one.property for one in answer.failures] == ["scopes"]


async def test_provider_instances_keep_their_own_region(server: ProviderServer, provider: Stub) -> None:
    channel, other = connect(server)
    await configure(other, project=PROJECT, region="europe-west4")
    await create(provider, NETWORK)
    here = await create(provider, ROUTER)
    there = await create(other, ROUTER)
    await channel.close()
    assert "/regions/us-central1/" in here.id
    assert "/regions/europe-west4/" in there.id


def test_values_survive_the_wire() -> None:
    values: dict[str, Any] = {"a": 1, "b": 1.5, "c": [True, "x", {"d": 3}], "e": UNKNOWN, "gone": None}
    assert decode(encode(values)) == {"a": 1, "b": 1.5, "c": [True, "x", {"d": 3}], "e": UNKNOWN}
