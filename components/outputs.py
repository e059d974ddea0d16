"""The stack's outputs: an interface that other stacks and the client rely on. Names and types do not change."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import pulumi

import contract
from components.catalog import catalog
from components.cost import monthly_cost
from components.gpu_group import GpuGroup
from components.gpu_template import GpuTemplate
from components.identity import Identity
from components.load_balancer import LoadBalancer
from components.model_build import ModelBuild
from components.naming import Names
from components.observability import Observability
from components.quota import quota_required
from components.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What a deployed fleet tells of itself. `export` writes each under its camelCase name."""

    endpoint: pulumi.Input[str]
    """`http://<address>[:port]`, or `https://<first domain>`; without final slash."""
    predict_url: pulumi.Input[str]
    """POST images here."""
    health_url: pulumi.Input[str]
    """200 while the fleet serves."""
    ip_address: pulumi.Input[str]
    """IPv4 address of the load balancer: where DNS names should point."""
    model_key: pulumi.Input[str]
    """Key of the artifact that new VMs serve."""
    model_uri: pulumi.Input[str]
    """`gs://bucket/models/<key>/`; another stack's `model.artifact` takes it."""
    instance_groups: Sequence[pulumi.Input[str]]
    """Links of the instance groups, in pool order."""
    instance_templates: Sequence[pulumi.Input[str]]
    """Unique links of the instance templates, in pool order."""
    backend_service: pulumi.Input[str]
    """Link of the backend service."""
    serving_service_account: pulumi.Input[str]
    """E-mail of the account that the VMs run as."""
    artifact_bucket: pulumi.Input[str]
    """Bucket of the artifacts that this stack builds."""
    gpu_metric: str
    """Monitoring type of the GPU utilisation metric."""
    monthly_cost_usd_min: float
    """List price of a month with every pool at its minimum, without traffic, NAT, logs and discounts."""
    monthly_cost_usd_max: float
    """The same with every pool at its maximum."""
    quota_required: dict[str, dict[str, int]]
    """Limits that the project needs: by region (and `global`), by Compute Engine's quota metric."""
    dashboard_url: pulumi.Input[str]
    """Where a person looks."""

    @classmethod
    def of(
        cls,
        names: Names,
        settings: Settings,
        *,
        identity: Identity,
        model: ModelBuild,
        templates: Sequence[GpuTemplate],
        groups: Sequence[GpuGroup],
        balancer: LoadBalancer,
        observability: Observability,
    ) -> Self:
        """Outputs of a stack that is made of these components."""
        cost = monthly_cost(settings.fleet, catalog())
        return cls(
            endpoint=balancer.endpoint,
            predict_url=pulumi.Output.concat(balancer.endpoint, contract.PREDICT_PATH),
            health_url=pulumi.Output.concat(balancer.endpoint, contract.MODEL_PATH),
            ip_address=balancer.address,
            model_key=model.model_key,
            model_uri=model.model_uri,
            instance_groups=[group.instance_group for group in groups],
            instance_templates=[template.self_link_unique for template in templates],
            backend_service=balancer.backend_service,
            serving_service_account=identity.serving_email,
            artifact_bucket=model.artifact_bucket,
            gpu_metric=settings.autoscaling.gpu_metric(names.program, names.stack),
            monthly_cost_usd_min=cost.min_usd,
            monthly_cost_usd_max=cost.max_usd,
            quota_required=quota_required(settings, catalog()),
            dashboard_url=observability.dashboard_url,
        )

    def export(self) -> None:
        """Make them the outputs of the running stack."""
        pulumi.export("endpoint", self.endpoint)
        pulumi.export("predictUrl", self.predict_url)
        pulumi.export("healthUrl", self.health_url)
        pulumi.export("ipAddress", self.ip_address)
        pulumi.export("modelKey", self.model_key)
        pulumi.export("modelUri", self.model_uri)
        pulumi.export("instanceGroups", [*self.instance_groups])
        pulumi.export("instanceTemplates", [*self.instance_templates])
        pulumi.export("backendService", self.backend_service)
        pulumi.export("servingServiceAccount", self.serving_service_account)
        pulumi.export("artifactBucket", self.artifact_bucket)
        pulumi.export("gpuMetric", self.gpu_metric)
        pulumi.export("monthlyCostUsdMin", self.monthly_cost_usd_min)
        pulumi.export("monthlyCostUsdMax", self.monthly_cost_usd_max)
        pulumi.export("quotaRequired", self.quota_required)
        pulumi.export("dashboardUrl", self.dashboard_url)
