"""Health checkers: ask every instance as Google's probers do, and keep what they found in the store."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Final

import aiohttp

from sandbox.compute.checks import Checked, autohealing_check, services_of, serving_check
from sandbox.compute.declared import (
    BACKEND_SERVICE,
    GROUP_MANAGER,
    HEALTH_CHECK,
    HealthCheck,
    UnmodelledError,
    backend_service,
    backend_services,
    declared,
    group,
    health_check,
)
from sandbox.compute.loop import Controller
from sandbox.compute.names import short
from sandbox.compute.records import HEALTH, HealthRecord, group_record, health_of, health_records, instance, put_record
from sandbox.compute.rollout import Health
from sandbox.machine.instance import Instance
from sandbox.network import firewall
from sandbox.settings import SandboxSettings
from sandbox.store import Store

PROBE_RANGES: Final = (IPv4Network("35.191.0.0/16"), IPv4Network("130.211.0.0/22"))
"""Sources of health probes and of the global balancer's proxies (Google Cloud, "Health checks overview", 2026-11)."""

_USER_AGENT: Final = "GoogleHC/1.0"
_EXPECTED_WITHIN: Final = 1024
"""Bytes of the body that may hold the expected text (same page)."""
_EXCERPT: Final = 200
_PERIOD_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What one probe found."""

    state: Health
    reason: str


@dataclass(frozen=True, slots=True)
class Tally:
    """Answers in a row, and the state that they have led to."""

    state: Health = "UNKNOWN"
    passes: int = 0
    failures: int = 0

    def after(self, answer: Answer, check: HealthCheck) -> Tally:
        """The tally with one more answer; the state changes when a threshold is met."""
        if answer.state == "HEALTHY":
            passes = self.passes + 1
            return Tally("HEALTHY" if passes >= check.healthy_threshold else self.state, passes, 0)
        failures = self.failures + 1
        failed = failures >= check.unhealthy_threshold
        return Tally(answer.state if failed else self.state, 0, failures)


@dataclass(frozen=True, slots=True)
class _Watch:
    """One check of one instance: what a probing task is for. A change of any part is another task."""

    checked: Checked
    instance: str
    instance_id: str


class HealthCheckers(Controller):
    """Probes each instance for each health check that a backend service or an autohealing policy names.

    Probes go out from this machine; that Google's would reach the instance is read off the declared firewall rules. A
    record changes only when the state or its reason does.
    """

    def __init__(self, settings: SandboxSettings, store: Store) -> None:
        super().__init__(store, "health checks", _PERIOD_S)
        self._source = (settings.operator_address, 0)
        self._watching: dict[_Watch, asyncio.Task[None]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._told: set[str] = set()

    async def start(self) -> None:
        """Begin probing. What was known of VMs that do not run, as after a stop of the sandbox, is forgotten."""
        for record in list(health_records(self._store)):
            vm = instance(self._store, record.instance)
            if vm is None or vm.status != "RUNNING":
                self._store.delete(HEALTH, record.name)
        connector = aiohttp.TCPConnector(force_close=True, limit=0, local_addr=self._source)
        self._session = aiohttp.ClientSession(connector=connector, headers={"User-Agent": _USER_AGENT})
        await super().start()

    async def stop(self) -> None:
        """Stop probing; records stay."""
        await super().stop()
        for task in self._watching.values():
            task.cancel()
        await asyncio.gather(*self._watching.values(), return_exceptions=True)
        self._watching.clear()
        if self._session is not None:
            await self._session.close()

    async def reconcile(self) -> None:
        """Start probing what is new, stop probing what is gone, and drop the records of what is gone."""
        self._tell_unmodelled()
        wanted = set(self._wanted())
        for watch in self._watching.keys() - wanted:
            self._watching.pop(watch).cancel()
        for watch in wanted - self._watching.keys():
            self._watching[watch] = asyncio.create_task(self._probe_on(watch))
        names = {(watch.checked.check.id, watch.instance, watch.checked.port) for watch in wanted}
        for record in list(health_records(self._store)):
            if (record.check, record.instance, record.port) not in names:
                self._store.delete(HEALTH, record.name)

    def _wanted(self) -> Iterator[_Watch]:
        services = backend_services(self._store)
        for identifier, resource in self._store.resources(GROUP_MANAGER):
            record = group_record(self._store, identifier)
            if record is None:
                continue
            try:
                owner = group(identifier, resource)
            except UnmodelledError:
                continue
            checks = [serving_check(self._store, service, owner) for service in services_of(owner, services)]
            checks.append(autohealing_check(self._store, owner))
            for member in record.members:
                vm = instance(self._store, f"{member.zone}/{member.name}")
                if vm is not None:
                    for checked in filter(None, checks):
                        yield _Watch(checked, vm.key, vm.numeric_id)

    def _tell_unmodelled(self) -> None:
        for token, read in ((HEALTH_CHECK, health_check), (BACKEND_SERVICE, backend_service)):
            for identifier, found in declared(self._store, token):
                try:
                    read(identifier, found)
                except UnmodelledError as refusal:
                    if str(refusal) not in self._told:
                        self._told.add(str(refusal))
                        self._store.event(short(identifier), str(refusal))

    async def _probe_on(self, watch: _Watch) -> None:
        check, port = watch.checked.check, watch.checked.port
        vm = instance(self._store, watch.instance)
        last = health_of(self._store, check.id, vm, port) if vm else None
        tally = Tally(last.state) if last else Tally()
        while vm is not None and vm.numeric_id == watch.instance_id:
            begun = time.monotonic()
            answer = await self._ask(check, vm, port)
            tally = tally.after(answer, check)
            self._keep(watch, vm, tally, answer)
            await asyncio.sleep(max(0.0, check.interval_s - (time.monotonic() - begun)))
            vm = instance(self._store, watch.instance)

    def _keep(self, watch: _Watch, vm: Instance, tally: Tally, answer: Answer) -> None:
        check, port = watch.checked.check, watch.checked.port
        last = health_of(self._store, check.id, vm, port)
        if last is None or last.state != tally.state:
            since = time.time()
            if tally.state != "UNKNOWN":
                self._store.event(vm.name, f"{short(check.id)}: {tally.state} ({answer.reason})")
        elif last.reason == answer.reason or answer.state != tally.state:
            return
        else:
            since = last.since
        record = HealthRecord(
            check=check.id,
            instance=vm.key,
            instance_id=vm.numeric_id,
            port=port,
            state=tally.state,
            reason=answer.reason,
            since=since,
        )
        put_record(self._store, HEALTH, record.name, record)

    async def _ask(self, check: HealthCheck, vm: Instance, port: int) -> Answer:
        blocked = blocked_by(self._store, vm, port)
        if blocked:
            await asyncio.sleep(check.timeout_s)
            return Answer("TIMEOUT", blocked)
        try:
            async with asyncio.timeout(check.timeout_s):
                return await self._ask_instance(check, vm, port)
        except TimeoutError:
            return Answer("TIMEOUT", f"no answer within {check.timeout_s:g} s")
        except (OSError, aiohttp.ClientError) as failure:
            return Answer("UNHEALTHY", _plain(failure))

    async def _ask_instance(self, check: HealthCheck, vm: Instance, port: int) -> Answer:
        if check.probe == "tcp":
            _, writer = await asyncio.open_connection(vm.address, port, local_addr=self._source)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            return Answer("HEALTHY", "connected")
        assert self._session is not None  # noqa: S101 - probing tasks run between start and stop
        headers = {"Host": check.host} if check.host else {}
        url = f"{check.probe}://{vm.address}:{port}{check.path}"
        context = _any_certificate() if check.probe == "https" else True
        async with self._session.get(url, headers=headers, allow_redirects=False, ssl=context) as response:
            body = (await response.content.read(_EXPECTED_WITHIN)).decode(errors="replace")
        excerpt = " ".join(body.split())[:_EXCERPT]
        reason = f"{response.status} {excerpt}".strip()
        if response.status != 200:
            return Answer("UNHEALTHY", reason)
        if check.expected and check.expected not in body:
            return Answer("UNHEALTHY", f"{reason}: expected {check.expected!r} in the body")
        return Answer("HEALTHY", reason)


def blocked_by(store: Store, vm: Instance, port: int) -> str:
    """Why the firewall keeps Google's probes from a port of an instance; empty if it lets all of them through."""
    declared_rules = firewall.rules(found for _, found in declared(store, firewall.TYPE))
    target = firewall.Target(network=vm.network, tags=frozenset(vm.tags), service_account=vm.service_account)
    for source in PROBE_RANGES:
        verdict = firewall.admits(declared_rules, source, target, port)
        if not verdict.allowed:
            return f"firewall: {source} may not reach tcp:{port}: {verdict.rule}"
    return ""


def _any_certificate() -> ssl.SSLContext:
    """Google's probers do not verify certificates (Google Cloud, "Health checks overview")."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _plain(failure: Exception) -> str:
    """The operating system's words where there are any: aiohttp adds an address that nobody in the cloud would know."""
    cause = failure.os_error if isinstance(failure, aiohttp.ClientConnectorError) else failure
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno)
    return str(failure) or type(failure).__name__
