"""A small fleet: what is declared of a group of VMs that read an object, without the parts that take long to start."""

from typing import Any

import pulumi

IMAGE = "projects/ubuntu-os-cloud/global/images/ubuntu-2404-noble-amd64-v20260820"
ZONES = ["us-central1-a", "us-central1-b"]
SCRIPT = "#!/bin/bash\nset -euo pipefail\necho up\nexec sleep infinity\n"


class Declared(pulumi.CustomResource):
    """A resource by its type token: the generated SDK takes longer to import than all else takes to run."""

    selfLinkUnique: pulumi.Output[str]  # noqa: N815 - the provider's name for it
    email: pulumi.Output[str]

    def __init__(self, token: str, name: str, /, **inputs: Any) -> None:
        computed = {"selfLinkUnique": None, "email": None}
        super().__init__(f"gcp:{token}", name, computed | inputs)


version = pulumi.Config().require("version")
account = Declared("serviceaccount/account:Account", "account", accountId="crash-vm")
network = Declared("compute/network:Network", "network", autoCreateSubnetworks=False)
subnetwork = Declared("compute/subnetwork:Subnetwork", "subnet", network=network.id, ipCidrRange="10.0.0.0/20")
bucket = Declared("storage/bucket:Bucket", "bucket", name="crash", location="US", forceDestroy=True)
Declared("storage/bucketObject:BucketObject", "object", bucket=bucket.id, name="note", content=version)
member = account.email.apply("serviceAccount:{}".format)
role = "roles/storage.objectViewer"
Declared("storage/bucketIAMMember:BucketIAMMember", "reader", bucket=bucket.id, role=role, member=member)
template = Declared(
    "compute/instanceTemplate:InstanceTemplate",
    "vm",
    machineType="n1-standard-1",
    disks=[{"sourceImage": IMAGE}],
    networkInterfaces=[{"subnetwork": subnetwork.id}],
    serviceAccount={"email": account.email, "scopes": ["cloud-platform"]},
    metadata={"version": version, "startup-script": SCRIPT},
)
Declared(
    "compute/regionInstanceGroupManager:RegionInstanceGroupManager",
    "group",
    baseInstanceName="vm",
    region="us-central1",
    distributionPolicyZones=ZONES,
    targetSize=2,
    versions=[{"instanceTemplate": template.selfLinkUnique}],
    updatePolicy={
        "type": "PROACTIVE",
        "minimalAction": "REPLACE",
        "maxSurgeFixed": len(ZONES),
        "maxUnavailableFixed": 0,
    },
)
