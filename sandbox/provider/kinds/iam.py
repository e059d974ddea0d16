"""Service accounts, project bindings and enabled services."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Final

from sandbox.provider.check import Failure
from sandbox.provider.cloud import Cloud, ProviderConfig
from sandbox.provider.errors import CloudError
from sandbox.provider.kinds.base import Kind, Plan, known
from sandbox.provider.kinds.compute_kind import fingerprint
from sandbox.provider.wire import Json

ACCOUNT: Final = "gcp:serviceaccount/account:Account"
_ACCOUNT_ID: Final = re.compile(r"[a-z](?:[-a-z0-9]{4,28}[a-z0-9])")
"""terraform-provider-google, `ServiceAccountNameRegex`."""
_MEMBER: Final = re.compile(
    r"allUsers|allAuthenticatedUsers|(?:user|group|domain|serviceAccount|principal|principalSet):.+"
)
_SERVICE_ACCOUNT: Final = "serviceAccount:"
_ENABLED: Final = "enabled"
"""Kind of the records of APIs that stay enabled: `<project>/<service>`."""


class Account(Kind):
    """A service account."""

    pulumi_type = ACCOUNT
    noun = "service_account"
    known_in_preview = frozenset({"email", "member"})

    def failures(self, inputs: Json) -> Iterator[Failure]:
        """The account id's form."""
        if known(inputs, "accountId") and not _ACCOUNT_ID.fullmatch(inputs["accountId"]):
            yield Failure(
                "accountId",
                f"accountId {inputs['accountId']!r} must be 6 to 30 lower-case letters, digits and hyphens, begin with "
                "a letter and not end with a hyphen",
            )

    def identifier(self, inputs: Json, config: ProviderConfig) -> str:
        """`projects/P/serviceAccounts/<email>`."""
        return f"projects/{inputs.get('project') or config.project}/serviceAccounts/{self._email(inputs, config)}"

    def planned(self, inputs: Json, config: ProviderConfig) -> Json:
        """Address and member follow from the id (`resourceServiceAccountCustomDiff`)."""
        if not known(inputs, "accountId"):
            return {}
        email = self._email(inputs, config)
        return {"email": email, "member": f"{_SERVICE_ACCOUNT}{email}"}

    def outputs(self, plan: Plan, cloud: Cloud) -> Json:
        """Address, member and unique id."""
        return self.planned(plan.inputs, plan.config) | {
            "name": plan.identifier,
            "project": plan.identifier.split("/")[1],
            "uniqueId": plan.old.get("uniqueId") or str(secrets.randbelow(9 * 10**20) + 10**20),
        }

    def already_exists(self, identifier: str) -> CloudError:
        """IAM's own words."""
        project, name = identifier.split("/")[1], identifier.rpartition("/")[2].partition("@")[0]
        return CloudError(
            409, f"Service account {name} already exists within project projects/{project}.", "alreadyExists"
        )

    @staticmethod
    def _email(inputs: Json, config: ProviderConfig) -> str:
        return f"{inputs['accountId']}@{inputs.get('project') or config.project}.iam.gserviceaccount.com"


class Member(Kind):
    """One role for one member on something."""

    overwrites = True

    def failures(self, inputs: Json) -> Iterator[Failure]:
        """The member's and the role's form."""
        if known(inputs, "member") and not _MEMBER.fullmatch(inputs["member"]):
            yield Failure(
                "member",
                f"member {inputs['member']!r} must be allUsers, allAuthenticatedUsers or <kind>:<name> such as "
                "serviceAccount:name@project.iam.gserviceaccount.com",
            )
        if known(inputs, "role") and not re.fullmatch(r"(?:projects/[^/]+/)?roles/.+|organizations/.+", inputs["role"]):
            yield Failure("role", f"role {inputs['role']!r} must be roles/<name>")

    def refuse(self, plan: Plan, cloud: Cloud) -> None:
        """A service account that is to get a role exists."""
        member = plan.inputs["member"]
        domain = f"@{plan.config.project}.iam.gserviceaccount.com"
        if not (member.startswith(_SERVICE_ACCOUNT) and member.endswith(domain)):
            return
        email = member.removeprefix(_SERVICE_ACCOUNT)
        if cloud.store.get("resource", f"projects/{plan.config.project}/serviceAccounts/{email}") is None:
            raise CloudError(400, f"Service account {email} does not exist.", "badRequest")

    def outputs(self, plan: Plan, cloud: Cloud) -> Json:
        """The policy's tag."""
        return {"etag": fingerprint(plan.inputs)}


class ProjectMember(Member):
    """One role for one member on a project."""

    pulumi_type = "gcp:projects/iAMMember:IAMMember"
    noun = "iam_member"

    def identifier(self, inputs: Json, config: ProviderConfig) -> str:
        """`<project>/<role>/<member>`."""
        return f"{inputs['project']}/{inputs['role']}/{inputs['member']}"


class Service(Kind):
    """An enabled API. Everything modelled answers whether or not its API is declared."""

    overwrites = True

    pulumi_type = "gcp:projects/service:Service"
    noun = "service"

    def failures(self, inputs: Json) -> Iterator[Failure]:
        """The service's name."""
        if known(inputs, "service") and not inputs["service"].endswith(".googleapis.com"):
            yield Failure("service", f"service {inputs['service']!r} must end in .googleapis.com")

    def identifier(self, inputs: Json, config: ProviderConfig) -> str:
        """`<project>/<service>`."""
        return f"{inputs.get('project') or config.project}/{inputs['service']}"

    def outputs(self, plan: Plan, cloud: Cloud) -> Json:
        """The project."""
        return {"project": plan.identifier.split("/")[0]}

    async def delete(self, identifier: str, state: Json, cloud: Cloud) -> None:
        """The API stays enabled, unless `disableOnDestroy`: others in the project may use it."""
        if state.get("disableOnDestroy"):
            cloud.store.delete(_ENABLED, identifier)
        else:
            cloud.store.put(_ENABLED, identifier, {})

    def outlived(self, identifier: str, inputs: Json, cloud: Cloud) -> Json | None:
        """An API that one stack enabled and let go is enabled for all."""
        if cloud.store.get(_ENABLED, identifier) is None:
            return None
        project, service = identifier.split("/")
        return inputs | {"project": project, "service": service}


KINDS: tuple[Kind, ...] = (Account(), ProjectMember(), Service())
