"""Who asks, and whether they may."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from sandbox.iam.policy import Policy, UnmodelledPolicyError, bucket_resource, operator_email
from sandbox.iam.tokens import Tokens
from sandbox.machine.instance import Instance
from sandbox.machine.sites import asked_address
from sandbox.settings import SandboxSettings
from sandbox.storage.errors import StorageError, denied, not_modelled
from sandbox.store import INSTANCE, Store

_SCOPE_ROOT = "https://www.googleapis.com/auth/"
_READ_SCOPES = frozenset(
    {
        "cloud-platform",
        "cloud-platform.read-only",
        "devstorage.read_only",
        "devstorage.read_write",
        "devstorage.full_control",
    }
)
_WRITE_SCOPES = frozenset({"cloud-platform", "devstorage.read_write", "devstorage.full_control"})


@dataclass(frozen=True, slots=True)
class Caller:
    """An identity and the OAuth scopes of its credentials; no e-mail is nobody."""

    email: str
    scopes: frozenset[str]


class Access:
    """Identifies callers by the address that they asked, or by their token, and evaluates IAM for them."""

    def __init__(self, settings: SandboxSettings, store: Store, policy: Policy) -> None:
        self._settings = settings
        self._store = store
        self._policy = policy
        self._tokens = Tokens(store)

    def caller(self, request: web.Request) -> Caller:
        """Raises StorageError (401) for a token that is unknown or expired."""
        caller = self._at(asked_address(request))
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer":
            return caller
        email = self._tokens.email_of(token.strip())
        if email is None:
            raise StorageError(401, "authError", "Invalid Credentials")
        return Caller(email, caller.scopes)

    def require(self, caller: Caller, permission: str, bucket: str | None) -> None:
        """Raises StorageError (403, or 401 for nobody) unless `caller` has `permission` on the bucket or project."""
        if not self.allows(caller, permission, bucket):
            raise denied(caller.email, permission, "project" if bucket is None else _kind(permission))

    def allows(self, caller: Caller, permission: str, bucket: str | None) -> bool:
        """Whether `caller` has `permission` on the bucket, or on the project where it is None."""
        reading = permission.endswith((".get", ".list"))
        if caller.email and not caller.scopes & (_READ_SCOPES if reading else _WRITE_SCOPES):
            raise StorageError(403, "insufficientPermissions", "Request had insufficient authentication scopes.")
        resource = f"projects/{self._settings.project}" if bucket is None else bucket_resource(bucket)
        try:
            return self._policy.allowed(caller.email, permission, resource)
        except UnmodelledPolicyError as error:
            raise not_modelled(f"this policy: {error}") from error

    def _at(self, address: str) -> Caller:
        if address == self._settings.operator_address:
            return Caller(operator_email(self._settings), frozenset({"cloud-platform"}))
        for _, record in self._store.items(INSTANCE):
            if record["address"] == address and record["status"] != "TERMINATED":
                instance = Instance.of(record)
                return Caller(instance.service_account, _short(instance.scopes))
        return Caller("", frozenset())


def _kind(permission: str) -> Literal["bucket", "object"]:
    return "object" if permission.startswith("storage.objects.") and permission != "storage.objects.list" else "bucket"


def _short(scopes: Sequence[str]) -> frozenset[str]:
    return frozenset(scope.removeprefix(_SCOPE_ROOT) for scope in scopes)
