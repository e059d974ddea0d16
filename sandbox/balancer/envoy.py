"""The balancer: keeps Envoy running, and its configuration equal to the declared chain."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Final

from sandbox.balancer.chain import Chain, Frontend, resolve
from sandbox.balancer.config import LISTENERS, Document, bootstrap, documents
from sandbox.balancer.process import EnvoyProcess
from sandbox.compute.loop import Controller
from sandbox.compute.names import short
from sandbox.compute.records import BALANCER
from sandbox.network.addresses import Addresses
from sandbox.settings import SandboxSettings
from sandbox.store import Store

_PERIOD_S: Final = 5.0


class Balancer(Controller):
    """Serves every declared global forwarding rule with an HTTP target proxy.

    A `balancer` record a forwarding rule says where it listens, or why it does not.
    """

    def __init__(self, settings: SandboxSettings, store: Store) -> None:
        super().__init__(store, "balancer", _PERIOD_S)
        self._addresses = Addresses(settings, store)
        self._folder = settings.state / "balancer"
        self._files = self._folder / "xds"
        self._envoy = EnvoyProcess(settings.state, self._folder, bootstrap(self._files), store)

    @property
    def access_log(self) -> Path:
        """One JSON line a request."""
        return self._folder / "access.log"

    async def start(self) -> None:
        """Write the configuration, start Envoy or take it over, and follow the records."""
        self._files.mkdir(parents=True, exist_ok=True)
        if not (self._files / LISTENERS).exists():
            self._write(documents(Chain(), self._files, self.access_log))
        await self._envoy.start()
        await super().start()

    async def stop(self) -> None:
        """End Envoy: nothing listens any more."""
        await super().stop()
        await self._envoy.stop()

    async def reconcile(self) -> None:
        """Bring Envoy's files and the records up to the declared chain."""
        chain = resolve(self._store, self._addresses)
        refused = dict(chain.refused)
        listening = self._listening()
        served: list[Frontend] = []
        for frontend in chain.frontends:
            held = (frontend.address, frontend.port) in listening
            reason = "" if held and self._envoy.alive else _obstacle(frontend)
            if reason:
                refused[frontend.rule] = reason
            else:
                served.append(frontend)
        self._write(
            documents(
                Chain(frontends=tuple(served), tables=chain.tables, clusters=chain.clusters),
                self._files,
                self.access_log,
            )
        )
        self._report(chain, refused)

    def _listening(self) -> set[tuple[str, int]]:
        listeners: Document = json.loads((self._files / LISTENERS).read_text())
        sockets = [resource["address"]["socket_address"] for resource in listeners["resources"]]
        return {(one["address"], one["port_value"]) for one in sockets}

    def _write(self, files: dict[str, Document]) -> None:
        for name, document in files.items():
            path = self._files / name
            text = json.dumps(document, indent=1)
            if not path.exists() or path.read_text() != text:
                fresh = path.with_suffix(".new")
                fresh.write_text(text)
                fresh.replace(path)
        for path in self._files.iterdir():
            if path.name not in files:
                path.unlink()

    def _report(self, chain: Chain, refused: dict[str, str]) -> None:
        places = {frontend.rule: frontend for frontend in chain.frontends}
        rules = {*places, *refused}
        for rule in rules:
            place, error = places.get(rule), refused.get(rule, "")
            before = self._store.get(BALANCER, rule)
            if before is None or before["error"] != error:
                where = f"{place.address}:{place.port}" if place else "nowhere"
                self._store.event(short(rule), error or f"the balancer listens on {where}")
            self._store.put(
                BALANCER,
                rule,
                {"address": place.address if place else "", "port": place.port if place else 0, "error": error},
            )
        for rule, _ in list(self._store.items(BALANCER)):
            if rule not in rules:
                self._store.delete(BALANCER, rule)


def _obstacle(frontend: Frontend) -> str:
    """Why this user cannot listen there; empty if nothing is in the way. Envoy would only write it to its log."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((frontend.address, frontend.port))
        except OSError as failure:
            remedy = (
                "use a port from 1024 up in this stack, or lower net.ipv4.ip_unprivileged_port_start"
                if isinstance(failure, PermissionError)
                else "another process holds it"
            )
            return f"cannot listen on {frontend.address}:{frontend.port}: {failure.strerror}; {remedy}"
    return ""
