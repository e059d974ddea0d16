"""What a deployment needs of this machine and of the project, checked one by one, each with its remedy."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from client.errors import ClientError
from client.google import Credentials, GoogleApi, compute_root, monitoring_root, storage_root
from client.outputs import NotDeployedError, StackOutputs, pulumi, read_outputs
from client.rendering import Table
from client.resources import Project, Quota, Region

State = Literal["ok", "failed", "skipped"]

QUOTA_PAGE = "https://console.cloud.google.com/iam-admin/quotas"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: State
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaNeed:
    """How much of a quota the stack needs at its largest, an update under way included."""

    region: str
    """Empty for a quota of the whole project."""
    metric: str
    needed: float


ANY_GPU = QuotaNeed(region="", metric="GPUS_ALL_REGIONS", needed=1)
"""What can be asked before the first deployment: new projects often have no GPU at all."""


def examine(stack: str | None) -> list[Check]:
    """All checks, in the order in which they depend on each other. What cannot be checked is `skipped`, with why."""
    checks = [_attempt("Pulumi CLI", _cli_version)]
    check, outputs = _outputs(stack)
    checks.append(check)
    credentials = Credentials()
    checks.append(_attempt("credentials", lambda: _credentials(credentials)))
    usable = checks[-1].state == "ok"
    project = outputs.project if outputs else _configured_project(stack) or (credentials.project if usable else None)
    if not usable or project is None:
        why = "no credentials" if not usable else "no project: set it with `pulumi config set gcp:project NAME`"
        return [*checks, *(Check(name=name, state="skipped", found=why) for name in ("APIs", "quotas"))]
    return [*checks, *_apis(credentials, project), *_quotas(credentials, project, outputs)]


def _outputs(stack: str | None) -> tuple[Check, StackOutputs | None]:
    name = "stack outputs"
    try:
        outputs = read_outputs(stack)
    except NotDeployedError as error:
        return Check(name=name, state="skipped", found=error.problem, remedy=error.remedy), None
    except ClientError as error:
        return Check(name=name, state="failed", found=error.problem, remedy=error.remedy), None
    return Check(name=name, state="ok", found=outputs.endpoint), outputs


def _attempt(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name=name, state="ok", found=look())
    except ClientError as error:
        return Check(name=name, state="failed", found=error.problem, remedy=error.remedy)


def _cli_version() -> str:
    found = pulumi("version").strip().removeprefix("v")
    pinned = importlib.metadata.version("pulumi")
    if found != pinned:
        raise ClientError(f"version {found}, but the program's SDK is {pinned}", f"Put Pulumi {pinned} first on PATH.")
    return found


def _credentials(credentials: Credentials) -> str:
    credentials.session()
    return f"found; their own project is {credentials.project or 'not set'}"


def _configured_project(stack: str | None) -> str | None:
    try:
        return pulumi("config", "get", "gcp:project", stack=stack).strip() or None
    except ClientError:
        return None


def _apis(credentials: Credentials, project: str) -> Iterator[Check]:
    """Ask each API the cheapest question: a disabled one says so itself, and no role on Service Usage is needed."""
    compute = GoogleApi(credentials, compute_root())
    monitoring = GoogleApi(credentials, monitoring_root())
    storage = GoogleApi(credentials, storage_root())
    questions: list[tuple[str, GoogleApi, str, dict[str, str | int]]] = [
        ("Compute Engine API", compute, f"projects/{project}", {}),
        ("Monitoring API", monitoring, f"v3/projects/{project}/metricDescriptors", {"pageSize": 1}),
        ("Cloud Storage API", storage, "storage/v1/b", {"project": project, "maxResults": 1}),
    ]
    for name, api, path, parameters in questions:

        def ask(api: GoogleApi = api, path: str = path, parameters: dict[str, str | int] = parameters) -> str:
            api.get(path, parameters)
            return f"answers for project {project}"

        yield _attempt(name, ask)


def _quotas(credentials: Credentials, project: str, outputs: StackOutputs | None) -> list[Check]:
    needs = quota_needs(outputs.quota_required) if outputs else (ANY_GPU,)
    compute = GoogleApi(credentials, compute_root())
    try:
        limits = {"": Project.model_validate(compute.get(f"projects/{project}")).quotas}
        for region in sorted({need.region for need in needs} - {""}):
            limits[region] = Region.model_validate(compute.get(f"projects/{project}/regions/{region}")).quotas
    except ClientError as error:
        return [Check(name="quotas", state="failed", found=error.problem, remedy=error.remedy)]
    return [compare_quota(need, limits[need.region]) for need in needs]


def quota_needs(required: dict[str, Any]) -> tuple[QuotaNeed, ...]:
    """The stack's output `quotaRequired` as a list."""
    return tuple(
        QuotaNeed(region="" if scope == "global" else scope, metric=metric, needed=float(needed))
        for scope, metrics in sorted(required.items())
        for metric, needed in sorted(metrics.items())
    )


def compare_quota(need: QuotaNeed, quotas: Iterable[Quota]) -> Check:
    """Whether a limit is at least what the stack needs. Use by the stack itself counts as available."""
    where = need.region or "all regions"
    name = f"quota {need.metric} in {where}"
    quota = next((one for one in quotas if one.metric == need.metric), None)
    if quota is None:
        return Check(name=name, state="skipped", found="the API reports no such quota here")
    found = f"limit {quota.limit:g}, in use {quota.usage:g}, the stack needs at least {need.needed:g}"
    if quota.limit >= need.needed:
        return Check(name=name, state="ok", found=found)
    remedy = f"Ask for {need.needed:g} at {QUOTA_PAGE}, or lower `fleet.pools[].max`."
    return Check(name=name, state="failed", found=found, remedy=remedy)


def table(checks: Sequence[Check]) -> Table:
    """One row a check."""
    rows = [(check.state, check.name, check.found, check.remedy) for check in checks]
    return Table("Checks", ("STATE", "CHECK", "FOUND", "REMEDY"), rows)


def as_json(check: Check) -> dict[str, str]:
    """A check as a JSON value."""
    return asdict(check)
