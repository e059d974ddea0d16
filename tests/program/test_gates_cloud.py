"""The gates' calls: Compute Engine's REST API, and what the hooks make of the engine's arguments."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pulumi
import pytest
import requests

import contract
from artifact.uri import ArtifactUri
from client.google import Credentials
from client.outputs import BackendServiceName, GroupName
from client.wait import Clock
from components import gates
from components.builder_wait import BuildError, BuilderVm, PassingError, Wait
from components.gates import BuildGate, CloudSite, RolloutGate, backend_service_of, group_name, service_name
from tests.program.configs import dev, parsed

URI = ArtifactUri.parse("gs://models/models/0123456789abcdef0123/")
VM = BuilderVm("my-project", "us-central1-a", "dev-builder-0123456789abcdef0123")
INSTANCE = f"/projects/{VM.project}/zones/{VM.zone}/instances/{VM.name}"
OPERATION = f"/projects/{VM.project}/zones/{VM.zone}/operations/operation-1"
LINK = "https://www.googleapis.com/compute/v1/projects/my-project"
GROUP = f"{LINK}/regions/us-central1/instanceGroups/serving"
Answers = dict[str, Any]


class Session:
    """What google.auth's session does, without credentials."""

    def request(self, method: str, url: str, **options: Any) -> Any:
        return requests.request(method, url, timeout=options.pop("timeout"), **options)


@pytest.fixture
def compute(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    """Compute Engine: path (with its method where it is POST) -> JSON, several to give in turn, or status."""
    answers: Answers = {}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._answer(self.path.partition("?")[0])

        def do_POST(self) -> None:
            self._answer(f"POST {self.path}")

        def _answer(self, asked: str) -> None:
            answer = answers.get(asked, 404)
            if isinstance(answer, list):
                answer = answer.pop(0) if len(answer) > 1 else answer[0]
            code = answer if isinstance(answer, int) else 200
            body = json.dumps({"error": {"message": f"code {code}"}} if code != 200 else answer).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    monkeypatch.setenv("GOOGLE_COMPUTE_CUSTOM_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setattr(Credentials, "session", lambda _: Session())
    yield answers
    server.shutdown()
    server.server_close()


def site() -> CloudSite:
    return CloudSite(URI, VM, Clock(sleep=lambda _: None))


def test_the_status_is_compute_engines_and_empty_for_a_vm_that_is_gone(compute: Answers) -> None:
    compute[INSTANCE] = {"status": "STAGING"}
    assert site().vm_status() == "STAGING"
    del compute[INSTANCE]
    assert site().vm_status() == ""


def test_what_may_pass_is_told_apart_from_what_will_not(compute: Answers) -> None:
    compute[INSTANCE] = 503
    with pytest.raises(PassingError, match="503"):
        site().vm_status()
    compute[INSTANCE] = 403
    with pytest.raises(Exception, match="403") as raised:
        site().vm_status()
    assert not isinstance(raised.value, PassingError)


def test_a_start_is_waited_for(compute: Answers) -> None:
    compute[f"POST {INSTANCE}/start"] = {"name": "operation-1", "status": "RUNNING"}
    compute[OPERATION] = [{"name": "operation-1", "status": "RUNNING"}, {"name": "operation-1", "status": "DONE"}]
    site().start_vm()
    assert len(compute[OPERATION]) == 1, "asked until it was done"


def test_a_zone_without_a_free_gpu_is_named_with_a_way_out(compute: Answers) -> None:
    fault = {"code": "ZONE_RESOURCE_POOL_EXHAUSTED", "message": "does not have enough resources"}
    done = {"name": "operation-1", "status": "DONE", "error": {"errors": [fault]}}
    compute[f"POST {INSTANCE}/start"] = done
    with pytest.raises(BuildError) as raised:
        site().start_vm()
    for part in ("us-central1-a", "ZONE_RESOURCE_POOL_EXHAUSTED", "model.builder.zone"):
        assert part in str(raised.value)


def test_the_console_is_read(compute: Answers) -> None:
    compute[f"{INSTANCE}/serialPort"] = {"contents": "builder.sh: error: no disk\n"}
    assert "no disk" in site().console()


def test_the_service_before_a_group_is_found_by_its_backends(compute: Answers) -> None:
    path = "/projects/my-project/global/backendServices"
    other, ours = f"{LINK}/global/backendServices/other", f"{LINK}/global/backendServices/ours"
    compute[path] = {
        "items": [{"selfLink": other}, {"selfLink": ours, "backends": [{"group": GROUP}]}],
    }
    assert backend_service_of(group_name(GROUP)) == BackendServiceName("my-project", "ours")
    compute[path] = {"items": [{"selfLink": other}]}
    assert backend_service_of(group_name(GROUP)) is None


def test_links_are_taken_apart() -> None:
    assert group_name(GROUP) == GroupName("my-project", "us-central1", "serving")
    assert service_name(f"{LINK}/global/backendServices/ours") == BackendServiceName("my-project", "ours")


# --- Hooks -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[..., Any]]:
    """Hooks by name, instead of their registration with an engine."""
    found: dict[str, Callable[..., Any]] = {}

    class Hook:
        def __init__(self, name: str, callback: Callable[..., Any]) -> None:
            found[name] = callback

    monkeypatch.setattr(pulumi, "ResourceHook", Hook)
    return found


def hook_args(**values: Any) -> pulumi.ResourceHookArgs:
    return pulumi.ResourceHookArgs(urn="urn", id="id", name="name", type="type", **values)


TEMPLATE_ARGS = hook_args(new_inputs={"metadata": {contract.ARTIFACT_KEY: str(URI)}})


def test_templates_of_several_pools_share_one_wait(
    hooks: dict[str, Callable[..., Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[Wait] = []
    monkeypatch.setattr(gates, "await_artifact", waits.append)
    BuildGate(*parsed(dev()), key=URI.key)

    async def run() -> None:
        await hooks["builder-is-made"](hook_args())
        await asyncio.gather(*(hooks["model-is-built"](TEMPLATE_ARGS) for _ in range(3)))

    asyncio.run(run())
    (wait,) = waits
    assert (wait.uri, wait.vm, wait.made_now, wait.deadline_s) == (URI, VM, True, 5400)


def test_a_failed_wait_fails_every_template(
    hooks: dict[str, Callable[..., Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Wait) -> None:
        raise BuildError("no disk")

    monkeypatch.setattr(gates, "await_artifact", fail)
    BuildGate(*parsed(dev()), key=URI.key)

    async def run() -> list[Any]:
        waits = (hooks["model-is-built"](TEMPLATE_ARGS) for _ in range(2))
        return await asyncio.gather(*waits, return_exceptions=True)

    assert [str(error) for error in asyncio.run(run())] == ["no disk", "no disk"]


def test_a_ready_artifact_has_no_builder_to_start(
    hooks: dict[str, Callable[..., Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[Wait] = []
    monkeypatch.setattr(gates, "await_artifact", waits.append)
    BuildGate(*parsed(dev(model={"artifact": str(URI)})), key=URI.key)
    asyncio.run(hooks["model-is-built"](TEMPLATE_ARGS))
    assert waits[0].vm is None


def test_an_interrupted_up_ends_the_wait(hooks: dict[str, Callable[..., Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, slept_on = threading.Event(), threading.Event()

    def wait_long(wait: Wait) -> None:
        waiting.set()
        wait.sleep(15)
        slept_on.set()

    monkeypatch.setattr(gates, "await_artifact", wait_long)
    gate = BuildGate(*parsed(dev()), key=URI.key)

    async def run() -> None:
        hook = asyncio.create_task(hooks["model-is-built"](TEMPLATE_ARGS))
        await asyncio.to_thread(waiting.wait, 20)
        hook.cancel()
        assert gate._arrival is not None
        gate._arrival.cancel()
        await asyncio.gather(hook, gate._arrival, return_exceptions=True)

    asyncio.run(run())
    assert not slept_on.is_set()


def test_without_patience_there_is_no_rollout_gate(hooks: dict[str, Callable[..., Any]]) -> None:
    gate = RolloutGate(parsed(dev(fleet={"update": {"waitS": 0}}))[1])
    assert (gate.group_hooks, gate.rule_hooks, hooks) == (None, None, {})


GROUP_PATH = "/projects/my-project/regions/us-central1/instanceGroupManagers/serving"
SERVICE_PATH = "/projects/my-project/global/backendServices"
TEMPLATE = f"{LINK}/global/instanceTemplates/new?uniqueId=7"


def rolled(policy: str = "PROACTIVE") -> pulumi.ResourceHookArgs:
    return hook_args(
        new_outputs={
            "instanceGroup": GROUP,
            "versions": [{"instanceTemplate": TEMPLATE}],
            "updatePolicy": {"type": policy},
        }
    )


@pytest.fixture
def fleet(compute: Answers) -> Answers:
    """A group of one VM that serves the new template."""
    vm = f"{LINK}/zones/us-central1-a/instances/vm-a"
    compute[SERVICE_PATH] = {
        "items": [{"selfLink": f"{LINK}/global/backendServices/ours", "backends": [{"group": GROUP}]}]
    }
    compute[GROUP_PATH] = {
        "name": "serving",
        "instanceGroup": GROUP,
        "targetSize": 1,
        "versions": [{"instanceTemplate": TEMPLATE}],
        "updatePolicy": {"type": "PROACTIVE"},
        "status": {"isStable": True, "versionTarget": {"isReached": True}},
    }
    compute[f"POST {GROUP_PATH}/listManagedInstances"] = {
        "managedInstances": [{"instance": vm, "instanceStatus": "RUNNING", "version": {"instanceTemplate": TEMPLATE}}]
    }
    compute[f"POST {SERVICE_PATH}/ours/getHealth"] = {"healthStatus": [{"instance": vm, "healthState": "HEALTHY"}]}
    return compute


@pytest.mark.usefixtures("fleet")
def test_an_update_ends_when_its_vms_serve(hooks: dict[str, Callable[..., Any]]) -> None:
    RolloutGate(parsed(dev())[1])
    asyncio.run(hooks["rollout-serves"](rolled()))


def test_an_update_that_does_not_arrive_names_vm_zone_and_reason(
    hooks: dict[str, Callable[..., Any]], fleet: Answers
) -> None:
    fleet[f"POST {SERVICE_PATH}/ours/getHealth"]["healthStatus"][0]["healthState"] = "UNHEALTHY"
    fleet["/projects/my-project/zones/us-central1-a/instances/vm-a/serialPort"] = {
        "contents": "startup-script: serving.sh: error: no artifact\n"
    }
    RolloutGate(parsed(dev(fleet={"update": {"waitS": 1}}))[1])
    with pytest.raises(pulumi.RunError) as raised:
        asyncio.run(hooks["rollout-serves"](rolled()))
    for part in ("vm-a", "us-central1-a", "UNHEALTHY", "no artifact"):
        assert part in str(raised.value)


def test_an_opportunistic_update_is_reported_and_not_waited_for(
    hooks: dict[str, Callable[..., Any]], fleet: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", warned.append)
    fleet[GROUP_PATH]["status"] = {"versionTarget": {}}
    fleet[GROUP_PATH]["updatePolicy"] = {"type": "OPPORTUNISTIC"}
    RolloutGate(parsed(dev())[1])
    asyncio.run(hooks["rollout-serves"](rolled("OPPORTUNISTIC")))
    assert any("update-instances" in line for line in warned)


def test_a_group_that_no_balancer_knows_yet_is_left_to_the_forwarding_rule(
    hooks: dict[str, Callable[..., Any]], fleet: Answers
) -> None:
    fleet[SERVICE_PATH] = {}
    RolloutGate(parsed(dev())[1])
    asyncio.run(hooks["rollout-serves"](rolled()))
