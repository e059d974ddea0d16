"""The metadata server of every VM, and of the operator: the address that was asked says who asks.

Paths, headers and formats: Google Cloud, "About VM metadata" and "Predefined VM metadata keys", 2026-11.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from typing import Any

from aiohttp import web

from sandbox.iam.policy import operator_email
from sandbox.iam.tokens import LIFETIME_S, Tokens
from sandbox.machine.instance import Instance
from sandbox.machine.record import MachineRecord
from sandbox.machine.sites import Sites, asked_address
from sandbox.settings import METADATA_PORT, SandboxSettings
from sandbox.store import INSTANCE, Store

_ROOT = "/computeMetadata/v1/"
_FLAVOR = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}
_GUEST_ATTRIBUTES = "guest-attributes"
_GUEST_ATTRIBUTES_ENABLED = "enable-guest-attributes"
_LONGEST_WAIT_S = 3600.0

Node = Any
"""A directory (dict, or list with its indexes as names) or a value (str, int, or a tuple of lines)."""


class MetadataServer:
    """Serves metadata on METADATA_PORT of the operator's address and of each VM's."""

    def __init__(self, settings: SandboxSettings, store: Store, tokens: Tokens) -> None:
        self._settings = settings
        self._store = store
        self._tokens = tokens
        application = web.Application()
        application.router.add_put(f"{_ROOT}instance/guest-attributes/{{namespace}}/{{name}}", self._put_attribute)
        application.router.add_get("/{path:.*}", self._get)
        self._sites = Sites(application, METADATA_PORT)

    async def start(self) -> None:
        """Serve the operator."""
        await self._sites.start()
        await self._sites.open(self._settings.operator_address)

    async def stop(self) -> None:
        """Close every address."""
        await self._sites.stop()

    async def open(self, instance: Instance) -> None:
        """Serve a VM. Raises OSError where the address cannot be bound."""
        await self._sites.open(instance.address)

    async def close(self, address: str) -> None:
        """Serve a VM no longer."""
        await self._sites.close(address)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if "X-Forwarded-For" in request.headers:
            return _refusal(403, "The request carries X-Forwarded-For.")
        if request.headers.get("Metadata-Flavor") != "Google":
            return _refusal(403, "Missing Metadata-Flavor:Google header.")
        if request.path in {"", "/"}:
            return web.Response(text="computeMetadata/\n", headers=_FLAVOR)
        if not request.path.startswith(_ROOT):
            return _refusal(404, f"{request.path} was not found")
        path, address = request.path.removeprefix(_ROOT), asked_address(request)
        answer = self._answer(request, address, path)
        if request.query.get("wait_for_change", "").lower() != "true":
            return answer
        known = request.query.get("last_etag", answer.headers.get("ETag"))
        deadline = time.monotonic() + min(float(request.query.get("timeout_sec", _LONGEST_WAIT_S)), _LONGEST_WAIT_S)
        while answer.headers.get("ETag") == known and (rest := deadline - time.monotonic()) > 0:
            if request.transport is None or request.transport.is_closing():
                break
            await self._store.changed(self._store.revision, rest)
            answer = self._answer(request, address, path)
        return answer

    def _answer(self, request: web.Request, address: str, path: str) -> web.Response:
        service_account = re.fullmatch(r"instance/service-accounts/([^/]+)/(token|identity)", path)
        tree = self._tree(address)
        if tree is None:
            return _refusal(404, "this address belongs to no VM")
        if service_account:
            return self._credential(request, tree, *service_account.groups())
        node = _find(tree, [part for part in path.split("/") if part])
        if node is None:
            return _refusal(404, f"{request.path} was not found")
        if not isinstance(node, dict | list):
            as_json = request.query.get("alt") == "json"
            return _value(json.dumps(_as_json(node)) if as_json else _as_text(node), json_body=as_json)
        if not request.path.endswith("/"):
            return web.Response(status=301, headers={**_FLAVOR, "Location": f"{request.path}/"})
        if request.query.get("recursive", "").lower() == "true":
            if request.query.get("alt", "json") == "text":
                return _value("".join(_lines(node, "")), json_body=False)
            return _value(json.dumps(_as_json(node)), json_body=True)
        names = node if isinstance(node, dict) else range(len(node))
        listing = "".join(f"{name}{'/' if isinstance(node[name], dict | list) else ''}\n" for name in names)
        return _value(listing, json_body=False)

    def _credential(self, request: web.Request, tree: Node, account: str, what: str) -> web.Response:
        known = _find(tree, ["instance", "service-accounts", account])
        if known is None:
            return _refusal(404, f"{request.path} was not found")
        email = known["email"]
        if what == "token":
            token = {
                "access_token": self._tokens.issue(email),
                "expires_in": LIFETIME_S,
                "token_type": "Bearer",
            }
            return _value(json.dumps(token), json_body=True)
        audience = request.query.get("audience")
        if not audience:
            return _refusal(400, "non-empty audience parameter required")
        return _value(_identity_token(email, audience), json_body=False)

    async def _put_attribute(self, request: web.Request) -> web.StreamResponse:
        instance = self._instance(asked_address(request))
        if request.headers.get("Metadata-Flavor") != "Google":
            return _refusal(403, "Missing Metadata-Flavor:Google header.")
        if instance is None or instance.metadata.get(_GUEST_ATTRIBUTES_ENABLED, "").upper() != "TRUE":
            return _refusal(403, f"guest attributes are disabled: set {_GUEST_ATTRIBUTES_ENABLED}=TRUE")
        record = MachineRecord.load(self._store, instance.key)
        namespace = record.guest_attributes.setdefault(request.match_info["namespace"], {})
        namespace[request.match_info["name"]] = await request.text()
        record.save(self._store)
        return web.Response(headers=_FLAVOR)

    def _instance(self, address: str) -> Instance | None:
        for _, record in self._store.items(INSTANCE):
            if record["address"] == address and record["status"] != "TERMINATED":
                return Instance.of(record)
        return None

    def _tree(self, address: str) -> Node | None:
        project = {
            "attributes": {},
            "numeric-project-id": self._settings.project_number,
            "project-id": self._settings.project,
        }
        if address == self._settings.operator_address:
            accounts = _service_accounts(operator_email(self._settings), ["cloud-platform"])
            return {"instance": {"attributes": {}, "service-accounts": accounts}, "project": project}
        instance = self._instance(address)
        if instance is None:
            return None
        record = MachineRecord.load(self._store, instance.key)
        return {"instance": instance_tree(self._settings, instance, record), "project": project}


def instance_tree(settings: SandboxSettings, instance: Instance, record: MachineRecord) -> Node:
    """A VM's `instance/` directory, by the names that paths use."""
    number = f"projects/{settings.project_number}"
    tree: dict[str, Node] = {
        "attributes": dict(instance.metadata),
        "cpu-platform": "Simulated",
        "hostname": f"{instance.name}.{instance.zone}.c.{settings.project}.internal",
        "id": int(instance.numeric_id),
        "image": instance.image,
        "machine-type": f"{number}/machineTypes/{instance.machine_type.rpartition('/')[2]}",
        "maintenance-event": record.maintenance_event,
        "name": instance.name,
        "network-interfaces": [
            {
                "access-configs": [],
                "ip": instance.address,
                "network": f"{number}/networks/{instance.network.rpartition('/')[2]}",
            }
        ],
        "preempted": _boolean(record.preempted),
        "scheduling": {
            "automatic-restart": _boolean(instance.automatic_restart),
            "on-host-maintenance": "TERMINATE" if instance.gpus or instance.preemptible else "MIGRATE",
            "preemptible": _boolean(instance.preemptible),
        },
        "service-accounts": _service_accounts(instance.service_account, instance.scopes),
        "tags": _Tags(instance.tags),
        "zone": f"{number}/zones/{instance.zone}",
    }
    if instance.metadata.get(_GUEST_ATTRIBUTES_ENABLED, "").upper() == "TRUE":
        tree[_GUEST_ATTRIBUTES] = record.guest_attributes
    return tree


class _Tags(tuple[str, ...]):
    """A list that is told as JSON even where values are told as text."""

    __slots__ = ()


def _service_accounts(email: str, scopes: list[str]) -> dict[str, Node]:
    if not email:
        return {}
    full = (scope if "/" in scope else f"https://www.googleapis.com/auth/{scope}" for scope in scopes)
    account = {"aliases": ("default",), "email": email, "scopes": tuple(full)}
    return {"default": account, email: account}


def _find(node: Node, parts: list[str]) -> Node | None:
    for part in parts:
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            return None
    return node


def _as_json(node: Node, *, verbatim: bool = False) -> Node:
    """As `alt=json` tells it: names in camelCase, except those that users chose."""
    if isinstance(node, dict):
        return {
            (name if verbatim or "@" in name else _camel(name)): _as_json(
                value, verbatim=verbatim or name in {"attributes", _GUEST_ATTRIBUTES}
            )
            for name, value in node.items()
        }
    if isinstance(node, list | tuple):
        return [_as_json(value, verbatim=verbatim) for value in node]
    return node


def _as_text(node: Node) -> str:
    if isinstance(node, _Tags):
        return json.dumps(list(node))
    return "".join(f"{line}\n" for line in node) if isinstance(node, tuple) else str(node)


def _lines(node: Node, path: str) -> list[str]:
    if isinstance(node, dict):
        return [line for name, value in node.items() for line in _lines(value, f"{path}/{name}".lstrip("/"))]
    if isinstance(node, list):
        return [line for index, value in enumerate(node) for line in _lines(value, f"{path}/{index}")]
    return [f"{path} {_as_text(node).rstrip()}\n"]


def _camel(name: str) -> str:
    first, *rest = name.split("-")
    return first + "".join(word.capitalize() for word in rest)


def _boolean(value: bool) -> str:
    return "TRUE" if value else "FALSE"


def _value(text: str, *, json_body: bool) -> web.Response:
    return web.Response(
        text=text,
        content_type="application/json" if json_body else "application/text",
        headers={**_FLAVOR, "ETag": hashlib.sha256(text.encode()).hexdigest()[:16]},
    )


def _refusal(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n", headers=_FLAVOR)


def _identity_token(email: str, audience: str) -> str:
    """The claims of Google's identity token; the signature says that it is simulated."""
    now = int(time.time())
    claims = {
        "aud": audience,
        "azp": email,
        "email": email,
        "email_verified": True,
        "exp": now + LIFETIME_S,
        "iat": now,
        "iss": "https://accounts.google.com",
        "sub": email,
    }
    parts = (json.dumps({"alg": "none", "typ": "JWT"}), json.dumps(claims), "simulated")
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)
