"""A small declared world for the controllers, and machine hosts that stand in for the real one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp import web

from sandbox.compute.loop import Controller
from sandbox.compute.names import self_link
from sandbox.compute.records import instance, instances
from sandbox.machine.instance import Instance
from sandbox.settings import SandboxSettings
from sandbox.store import INSTANCE, RESOURCE, Json, Store

PROJECT = "sandbox-project"
REGION = "us-central1"
ZONES = ("us-central1-a", "us-central1-b")
NETWORK = f"projects/{PROJECT}/global/networks/net"
GROUP = f"projects/{PROJECT}/regions/{REGION}/instanceGroupManagers/serve"
AUTOSCALER = f"projects/{PROJECT}/regions/{REGION}/autoscalers/serve"
SERVICE = f"projects/{PROJECT}/global/backendServices/api"
SERVING_CHECK = f"projects/{PROJECT}/global/healthChecks/serving"
LIVENESS_CHECK = f"projects/{PROJECT}/global/healthChecks/liveness"
URL_MAP = f"projects/{PROJECT}/global/urlMaps/api"
PROXY = f"projects/{PROJECT}/global/targetHttpProxies/api"
RULE = f"projects/{PROJECT}/global/forwardingRules/api"
FIREWALL = f"projects/{PROJECT}/global/firewalls/probes"
ACCOUNT = f"serving@{PROJECT}.iam.gserviceaccount.com"
PORT = 8888


_BLOCKS = range(248, 255)
"""Above those of real sandboxes, and one for each worker of a parallel test run."""
BLOCK = _BLOCKS[int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % len(_BLOCKS)]


def settings(state: Path, **changes: Any) -> SandboxSettings:
    return SandboxSettings(state=state, block=BLOCK, **changes)


def declare(store: Store, type_token: str, identifier: str, inputs: Json, **state: Any) -> None:
    computed = {"selfLink": self_link(identifier), "name": identifier.rpartition("/")[2], "project": PROJECT}
    record = {
        "type": type_token,
        "urn": f"urn:{identifier}",
        "inputs": inputs,
        "state": {**inputs, **computed, **state},
        "created": 1000.0,
    }
    store.put(RESOURCE, identifier, record)


def template_id(version: str) -> str:
    return f"projects/{PROJECT}/global/instanceTemplates/serve-{version}"


def template_link(version: str) -> str:
    return f"{self_link(template_id(version))}?uniqueId={sum(map(ord, version))}"


def declare_template(store: Store, version: str, gpus: int = 0, *, spot: bool = False) -> None:
    inputs: Json = {
        "machineType": "n1-standard-2",
        "disks": [{"boot": True, "sourceImage": "projects/debian-cloud/global/images/debian-12-v1"}],
        "networkInterfaces": [{"network": self_link(NETWORK)}],
        "metadata": {"version": version},
        "tags": ["http-server"],
        "serviceAccount": {"email": ACCOUNT, "scopes": ["cloud-platform"]},
        "scheduling": {"preemptible": spot, "automaticRestart": not spot, "onHostMaintenance": "TERMINATE"},
    }
    if gpus:
        inputs["guestAccelerators"] = [{"type": "nvidia-tesla-t4", "count": gpus}]
    declare(
        store,
        "gcp:compute/instanceTemplate:InstanceTemplate",
        template_id(version),
        inputs,
        selfLinkUnique=template_link(version),
    )


def declare_group(
    store: Store, version: str, *, size: int | None = 2, healing: bool = True, update: Json | None = None, **more: Any
) -> None:
    inputs: Json = {
        "baseInstanceName": "serve",
        "region": REGION,
        "distributionPolicyZones": list(ZONES),
        "versions": [{"instanceTemplate": template_link(version)}],
        "namedPorts": [{"name": "http", "port": PORT}],
        "updatePolicy": {
            "type": "PROACTIVE",
            "minimalAction": "REPLACE",
            "replacementMethod": "SUBSTITUTE",
            "maxSurgeFixed": 2,
            "maxUnavailableFixed": 0,
            **(update or {}),
        },
        **more,
    }
    if size is not None:
        inputs["targetSize"] = size
    if healing:
        inputs["autoHealingPolicies"] = {"healthCheck": self_link(LIVENESS_CHECK), "initialDelaySec": 30}
    declare(store, "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager", GROUP, inputs)


def declare_check(store: Store, identifier: str, path: str, **more: Any) -> None:
    inputs = {
        "checkIntervalSec": 1,
        "timeoutSec": 1,
        "httpHealthCheck": {"port": PORT, "requestPath": path},
        **more,
    }
    declare(store, "gcp:compute/healthCheck:HealthCheck", identifier, inputs)


def declare_firewall(store: Store, *ranges: str, **more: Any) -> None:
    inputs = {
        "network": self_link(NETWORK),
        "allows": [{"protocol": "tcp", "ports": [str(PORT)]}],
        "sourceRanges": list(ranges),
        "targetServiceAccounts": [ACCOUNT],
        **more,
    }
    declare(store, "gcp:compute/firewall:Firewall", FIREWALL, inputs)


def declare_service(store: Store, *, draining_s: int = 1, timeout_s: int = 30, **more: Any) -> None:
    inputs = {
        "backends": [{"group": self_link(GROUP.replace("Managers", "s")), "balancingMode": "UTILIZATION"}],
        "healthChecks": self_link(SERVING_CHECK),
        "portName": "http",
        "protocol": "HTTP",
        "timeoutSec": timeout_s,
        "connectionDrainingTimeoutSec": draining_s,
        "loadBalancingScheme": "EXTERNAL_MANAGED",
        **more,
    }
    declare(store, "gcp:compute/backendService:BackendService", SERVICE, inputs)


def declare_chain(store: Store, address: str, port: int, **service: Any) -> None:
    """Backend service, URL map, proxy, forwarding rule and the firewall rule for Google's ranges."""
    declare_service(store, **service)
    declare(store, "gcp:compute/uRLMap:URLMap", URL_MAP, {"defaultService": self_link(SERVICE)})
    declare(store, "gcp:compute/targetHttpProxy:TargetHttpProxy", PROXY, {"urlMap": self_link(URL_MAP)})
    rule = {
        "target": self_link(PROXY),
        "ipAddress": address,
        "portRange": str(port),
        "loadBalancingScheme": "EXTERNAL_MANAGED",
    }
    declare(store, "gcp:compute/globalForwardingRule:GlobalForwardingRule", RULE, rule)
    declare_firewall(store, "130.211.0.0/22", "35.191.0.0/16")
    declare_check(store, SERVING_CHECK, "/health")
    declare_check(store, LIVENESS_CHECK, "/alive")


def set_status(store: Store, key: str, **changes: Any) -> None:
    vm = instance(store, key)
    assert vm is not None
    store.put(INSTANCE, key, replace(vm, **changes).as_json())


class Toy:
    """The HTTP server of one VM: what it answers can be changed while it runs."""

    def __init__(self, vm: Instance) -> None:
        self.name = vm.name
        self.version = vm.metadata["version"]
        self.health = 200
        self.alive = 200
        self.delay_s = 0.0
        self.answers = 200
        self.requests: list[str] = []
        self._runner: web.AppRunner | None = None
        self._address = vm.address

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/alive", self._alive)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, keepalive_timeout=650, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._address, PORT, reuse_address=True).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _health(self, _: web.Request) -> web.Response:
        headers = {"Location": "/alive"} if 300 <= self.health < 400 else {}
        return web.Response(status=self.health, text=f"{self.name} health", headers=headers)

    async def _alive(self, _: web.Request) -> web.Response:
        return web.Response(status=self.alive, text=f"{self.name} alive")

    async def _serve(self, request: web.Request) -> web.Response:
        await request.read()
        self.requests.append(request.method)
        await asyncio.sleep(self.delay_s)
        return web.Response(status=self.answers, text=f"{self.name} {self.version}")


class ToyHost(Controller):
    """A machine host whose VMs are toy servers: RUNNING when the server listens, gone when it is deleted."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, "toy host", 1.0)
        self.toys: dict[str, Toy] = {}
        self.new_health = 200

    async def stop(self) -> None:
        await super().stop()
        for toy in self.toys.values():
            await toy.stop()

    async def reconcile(self) -> None:
        for vm in list(instances(self._store)):
            if vm.desired == "DELETED":
                toy = self.toys.pop(vm.key, None)
                if toy:
                    await toy.stop()
                self._store.delete(INSTANCE, vm.key)
            elif vm.status == "PROVISIONING":
                toy = self.toys[vm.key] = Toy(vm)
                toy.health = self.new_health
                await toy.start()
                set_status(self._store, vm.key, status="RUNNING", started=time.time())


async def eventually(condition: Callable[[], bool], store: Store, timeout_s: float = 30.0) -> None:
    """Wait until the condition holds; on time-out, fail with the latest events."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            told = "\n".join(f"{subject}: {text}" for _, subject, text in store.events()[-30:])
            raise AssertionError(f"not within {timeout_s:g} s; events:\n{told}")
        await store.changed(store.revision, 0.1)


async def answers(condition: Callable[[], Awaitable[bool]], timeout_s: float = 30.0) -> None:
    """Wait until the asynchronous condition holds."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s"
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def running(*parts: Any) -> AsyncIterator[None]:
    """Start parts of the daemon in order, and stop them in reverse."""
    async with contextlib.AsyncExitStack() as stack:
        for part in parts:
            await part.start()
            stack.push_async_callback(part.stop)
        yield
