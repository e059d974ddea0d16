"""What the declared bindings allow.

The resources that the engine declared are the policy; nothing copies them, so there is no second truth to fall behind.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sandbox.iam.roles import OWNER, PERMISSIONS
from sandbox.settings import SandboxSettings
from sandbox.store import Store

PROJECT_MEMBER = "gcp:projects/iAMMember:IAMMember"
BUCKET_MEMBER = "gcp:storage/bucketIAMMember:BucketIAMMember"
_BUCKET_PREFIX = "projects/_/buckets/"


class UnmodelledPolicyError(Exception):
    """A binding that decides the question says something that the sandbox cannot evaluate."""


@dataclass(frozen=True, slots=True)
class Binding:
    """One member's role on one resource."""

    role: str
    member: str
    resource: str
    """`projects/<id>` or `projects/_/buckets/<name>`."""
    conditional: bool
    created: float
    """Unix seconds."""


def bucket_resource(name: str) -> str:
    """A bucket's resource name, for `Policy.allowed`."""
    return f"{_BUCKET_PREFIX}{name}"


def operator_email(settings: SandboxSettings) -> str:
    """Identity of the person at the keyboard, who owns the project."""
    return f"operator@{settings.project}.iam.gserviceaccount.com"


class Policy:
    """Evaluates IAM bindings for a project and its buckets.

    A binding takes effect `settings.iam_delay_s` after its creation: Google's take "typically 2 minutes, potentially 7
    minutes or longer" ("Access change propagation", 2026-11).
    """

    def __init__(self, settings: SandboxSettings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._operator = operator_email(settings)

    def allowed(self, member_email: str, permission: str, resource: str) -> bool:
        """Whether the service account `member_email` (empty: nobody) has `permission` on `resource`.

        `resource` is `projects/<id or number>` or what `bucket_resource` answers. Bindings of the project hold for its
        buckets. Raises UnmodelledPolicyError for a binding of this member with an unknown role or a condition.
        """
        if member_email == self._operator:
            return True
        members = {"allUsers"}
        if member_email:
            members |= {"allAuthenticatedUsers", f"serviceAccount:{member_email}"}
        scopes = self._lineage(resource)
        now = time.time()
        return any(
            _grants(binding, permission)
            for binding in self._bindings()
            if binding.member in members
            and binding.resource in scopes
            and binding.created + self._settings.iam_delay_s <= now
        )

    def _lineage(self, resource: str) -> set[str]:
        project = f"projects/{self._settings.project}"
        if resource.startswith(_BUCKET_PREFIX):
            return {resource, project}
        return {project if resource == f"projects/{self._settings.project_number}" else resource}

    def _bindings(self) -> Iterator[Binding]:
        for _, record in self._store.resources(PROJECT_MEMBER):
            yield _binding(record, f"projects/{record['inputs']['project'].removeprefix('projects/')}")
        for _, record in self._store.resources(BUCKET_MEMBER):
            yield _binding(record, bucket_resource(record["inputs"]["bucket"].removeprefix("b/")))


def _binding(record: dict[str, Any], resource: str) -> Binding:
    inputs = record["inputs"]
    return Binding(
        inputs["role"], inputs["member"], resource, bool(inputs.get("condition")), float(record.get("created", 0.0))
    )


def _grants(binding: Binding, permission: str) -> bool:
    if binding.conditional:
        raise UnmodelledPolicyError(
            f"the binding of {binding.role} to {binding.member} on {binding.resource} has a condition, which the "
            "sandbox does not evaluate: declare it without one"
        )
    if binding.role == OWNER:
        return True
    permissions = PERMISSIONS.get(binding.role)
    if permissions is None:
        raise UnmodelledPolicyError(
            f"the sandbox does not know the permissions of {binding.role}, which {binding.member} has on "
            f"{binding.resource}; it knows {', '.join(sorted(PERMISSIONS))} and {OWNER} (sandbox/iam/roles.py)"
        )
    return permission in permissions
