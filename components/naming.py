"""Names that must be known before anything exists, made from the project, the program and the stack."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

MAX_STACK_LENGTH: Final = 16
"""Service account ids hold 30 characters: `fleet-`, the stack, and `-serving`."""
MAX_BUCKET_LENGTH: Final = 63
FLEET_LABEL: Final = "fleet"
"""Label of the VMs, by which Monitoring tells this fleet's from others."""

Role = Literal["serving", "builder"]
BucketRole = Literal["inputs", "artifacts"]


class Names(NamedTuple):
    """Where this stack is; all explicit names follow from it."""

    project: str
    """Google Cloud project id."""
    region: str
    """Region of the buckets."""
    program: str
    """Pulumi project."""
    stack: str

    @property
    def fleet(self) -> str:
        """The fleet's name in labels and titles: a program and its stack."""
        return f"{self.program}-{self.stack}"

    def account_id(self, role: Role) -> str:
        """Id of a service account; unique in the Google Cloud project."""
        return f"fleet-{self.stack}-{role}"

    def bucket(self, role: BucketRole) -> str:
        """Name of a bucket; the project id in it makes it unique in the world."""
        return f"{self.project}-{self.program}-{self.stack}-{role}"

    def builder(self, key: str) -> str:
        """Name of the VM that builds the artifact `key`: at most 45 of the 63 characters that a VM's name may have."""
        return f"{self.stack}-builder-{key}"

    def instances(self, pool: str) -> str:
        """What the names of a pool's VMs begin with."""
        return f"{self.stack}-{pool}"
