"""The stack: settings -> components -> outputs. What differs between stacks is in Pulumi.<stack>.yaml, never here."""

from pathlib import Path

import pulumi

from components.artifact_key import wanted_key
from components.bundle import BUILDER_CODE, SERVING_CODE, write_bundle
from components.catalog import catalog
from components.gates import BuildGate, RolloutGate
from components.gpu_group import GpuGroup, GpuGroupArgs
from components.gpu_template import GpuTemplate, GpuTemplateArgs
from components.identity import Identity, IdentityArgs
from components.load_balancer import LoadBalancer, LoadBalancerArgs
from components.model_build import ModelBuild, ModelBuildArgs
from components.network import Network, NetworkArgs
from components.observability import Observability, ObservabilityArgs
from components.outputs import Outputs
from components.remarks import remarks
from components.services import Services, ServicesArgs
from components.settings import load
from components.uploads import uploads
from components.vm_metadata import builder_metadata, serving_metadata

repository = Path(__file__).resolve().parent
names, settings = load()
key = wanted_key(repository, settings)
for remark in remarks(settings, catalog()):
    pulumi.log.warn(remark)

build_gate, rollout_gate = BuildGate(names, settings, key), RolloutGate(settings)
services = Services("services", ServicesArgs(names=names))
after = pulumi.ResourceOptions(depends_on=services.enabled)
identity = Identity("identity", IdentityArgs(names=names), after)
network = Network("network", NetworkArgs(names=names, settings=settings, account=identity.serving_email), after)
sent = uploads(repository, names, settings)
model = ModelBuild(
    "model",
    ModelBuildArgs(
        names=names,
        settings=settings,
        key=key,
        code=write_bundle(repository, SERVING_CODE),
        builder_code=write_bundle(repository, BUILDER_CODE),
        uploads=sent,
        builder_metadata=builder_metadata(repository, names, settings, sent),
        builder_subnetwork=network.subnetwork(settings.builder_region),
        builder_email=identity.builder_email,
        builder_member=identity.builder_member,
        builder_needs=[*identity.builder_bindings, *network.ready(settings.builder_region)],
        builder_hooks=build_gate.builder_hooks,
        serving_member=identity.serving_member,
    ),
    after,
)
metadata = serving_metadata(repository, names, settings, model)
templates, groups = [], []
for pool in settings.fleet.pools:
    vm = GpuTemplateArgs(
        names=names,
        fleet=settings.fleet,
        pool=pool,
        subnetwork=network.subnetwork(pool.region),
        service_account=identity.serving_email,
        metadata=metadata,
        model_needs=[*model.bindings, *model.builders],
        hooks=build_gate.template_hooks,
    )
    template = GpuTemplate(f"serving-{pool.name}-vm", vm, after)
    boot_needs = [*identity.serving_bindings, *model.bindings, *network.ready(pool.region)]
    vms = GpuGroupArgs(
        names=names,
        settings=settings,
        pool=pool,
        template=template.self_link_unique,
        boot_needs=boot_needs,
        hooks=rollout_gate.group_hooks,
    )
    templates.append(template)
    groups.append(GpuGroup(f"serving-{pool.name}", vms, after))

front = LoadBalancerArgs(names=names, settings=settings.load_balancer, groups=groups, hooks=rollout_gate.rule_hooks)
balancer = LoadBalancer("balancer", front, after)
rollout_gate.watch(
    groups=[group.instance_group for group in groups],
    templates=[template.self_link_unique for template in templates],
    backend_service=balancer.backend_service,
)
watch = ObservabilityArgs(names=names, settings=settings, url_map=balancer.url_map_name)
observability = Observability("observability", watch, after)
Outputs.of(
    names,
    settings,
    identity=identity,
    model=model,
    templates=templates,
    groups=groups,
    balancer=balancer,
    observability=observability,
).export()
