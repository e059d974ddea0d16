"""The whole configuration of one stack, and the checks that span its objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, ValidationError

from components.naming import MAX_BUCKET_LENGTH, MAX_STACK_LENGTH, Names
from components.settings.autoscaling import AutoscalingSettings
from components.settings.builder import BuilderSettings
from components.settings.fleet import EXACT_IMAGE, AutohealingSettings, FleetSettings, Pool, is_stock, release
from components.settings.load_balancer import LoadBalancerSettings
from components.settings.model import ModelSettings
from components.settings.network import ExistingNetwork, NetworkSettings
from components.settings.observability import ObservabilitySettings
from components.settings.problems import InvalidSettingsError, Problem, problems_of, shown
from components.settings.section import Known, Refusal, Section, refuse
from components.settings.storage import BUCKET_RULES, StorageSettings, valid_bucket_name

NAMESPACE: Final = "tensorrt-fleet"
"""Prefix of this program's configuration keys; also the Pulumi project's name."""
PROVIDER: Final = "gcp"
"""Prefix of the provider's configuration keys."""
PROVIDER_KEYS: Final = ("project", "region")

_PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")
_REGION = re.compile(r"[a-z]+(-[a-z]+)+[0-9]+")
_STACK = re.compile(rf"[a-z]([a-z0-9-]{{0,{MAX_STACK_LENGTH - 2}}}[a-z0-9])?")


def _project_id(project: str) -> str:
    if not _PROJECT.fullmatch(project):
        allowed = "6 to 30 lower-case letters, digits and hyphens, a letter first"
        raise refuse(Refusal(project, allowed, "run `pulumi config set gcp:project <id>` with the id of your project"))
    return project


def _region(region: str) -> str:
    if not _REGION.fullmatch(region):
        raise refuse(Refusal(region, "a region such as us-central1", "run `pulumi config set gcp:region <region>`"))
    return region


class ProviderSettings(Section):
    """`gcp:project` and `gcp:region`."""

    project: Annotated[str, AfterValidator(_project_id)] = Field(
        description="`pulumi config set gcp:project <id>`", examples=["my-project"]
    )
    region: Annotated[str, AfterValidator(_region)] = Field(
        description="`pulumi config set gcp:region <region>`: where the buckets are", examples=["us-central1"]
    )


class Settings(Section):
    """What this program deploys, one object a concern."""

    model: ModelSettings = Field(default=ModelSettings(), description="what is served", examples=[{}])
    fleet: FleetSettings = Field(description="the serving VMs", examples=[{"pools": ["..."], "image": "..."}])
    autoscaling: AutoscalingSettings = Field(
        default=AutoscalingSettings(), description="when VMs are added and taken away", examples=[{"gpuTarget": 85}]
    )
    load_balancer: LoadBalancerSettings = Field(
        default=LoadBalancerSettings(), description="how requests reach the VMs", examples=[{"port": 80}]
    )
    network: NetworkSettings = Field(default=NetworkSettings(), description="where VMs are", examples=[{"nat": True}])
    storage: StorageSettings = Field(
        default=StorageSettings(), description="where artifacts are kept", examples=[{"forceDestroy": True}]
    )
    observability: ObservabilitySettings = Field(
        default=ObservabilitySettings(), description="dashboard and alerts", examples=[{"alerts": True}]
    )

    @property
    def builder_zone(self) -> str:
        """Zone of the builder VM."""
        return self.model.builder.zone or self.fleet.pools[0].zones[0]

    @property
    def builder_region(self) -> str:
        """Region of the builder VM."""
        return self.builder_zone.rpartition("-")[0]

    @property
    def builder_image(self) -> str:
        """Boot image of the builder VM."""
        return self.model.builder.image or self.fleet.image


class Configuration(Section):
    """A stack's configuration by the prefix of its keys."""

    gcp: ProviderSettings
    program: Settings = Field(alias=NAMESPACE)


def parse(config: Mapping[str, str], *, program: str, stack: str) -> tuple[Names, Settings]:
    """Read a configuration: full keys (`tensorrt-fleet:fleet`, `gcp:project`) with their values as Pulumi passes them.

    Raises:
        InvalidSettingsError: with every problem of the configuration.
    """
    known: Known = {}
    problems: list[Problem] = []
    configuration: Configuration | None = None
    try:
        configuration = Configuration.model_validate_json(json.dumps(_objects(config)), context=known)
    except ValidationError as error:
        problems += problems_of(_path, Configuration, error)
    names = Names(
        project=config.get("gcp:project", ""), region=config.get("gcp:region", ""), program=program, stack=stack
    )
    problems += _name_problems(names)
    problems += _image_without_internet(known)
    problems += builder_unlike_fleet(known)
    problems += _healed_while_starting(known)
    problems += _regions_without_subnet(known)
    problems += _only_group_drained(known)
    if problems or configuration is None:
        raise InvalidSettingsError(stack, problems)
    return names, configuration.program


def _objects(config: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Values by prefix and key; of the provider's keys only those that this program reads."""
    keys = {key.partition(":")[::2]: text for key, text in config.items()}
    return {
        PROVIDER: {key: text for (prefix, key), text in keys.items() if prefix == PROVIDER and key in PROVIDER_KEYS},
        NAMESPACE: {key: _value(text) for (prefix, key), text in keys.items() if prefix == NAMESPACE},
    }


def _value(text: str) -> object:
    """What a value says; text that is no JSON stays text, for the types to refuse."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _path(loc: tuple[int | str, ...]) -> str:
    """Where a value stands in the stack file: `tensorrt-fleet:fleet.pools[0].zones`, `gcp:project`."""
    inside = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc[1:])
    return f"{loc[0]}:{inside.removeprefix('.')}"


def _name_problems(names: Names) -> Iterator[Problem]:
    if not _STACK.fullmatch(names.stack):
        allowed = f"up to {MAX_STACK_LENGTH} lower-case letters, digits and hyphens, a letter first, no hyphen last"
        yield Problem("the stack's name", shown(names.stack), allowed, "run `pulumi stack rename <name>`")
    elif _PROJECT.fullmatch(names.project) and not valid_bucket_name(names.bucket("artifacts")):
        given = names.bucket("artifacts")
        remedy = f"rename the stack so that the bucket's name has at most {MAX_BUCKET_LENGTH} characters"
        yield Problem("the artifact bucket's name", f"{shown(given)} ({len(given)})", BUCKET_RULES, remedy)


def _image_without_internet(known: Known) -> Iterator[Problem]:
    needed = ((FleetSettings, "image"), (NetworkSettings, "nat"), (NetworkSettings, "existing"))
    if not all(key in known for key in needed):
        return
    image, nat, existing = (known[key] for key in needed)
    if is_stock(image) and not nat and not (existing and existing.has_nat):
        path, allowed = _path((NAMESPACE, "fleet", "image")), f"{EXACT_IMAGE} of your own where network.nat is false"
        remedy = "bake one (`make image ROLE=serving`), or set network.nat to true: a stock image fetches its container"
        yield Problem(path, shown(image), allowed, remedy)


def builder_unlike_fleet(known: Known) -> Iterator[Problem]:
    """What is wrong with a builder VM for this fleet, where there is one."""
    if known.get((ModelSettings, "artifact"), "unreadable") is not None:
        return
    zone: str | None = known.get((BuilderSettings, "zone"))
    pools: tuple[Pool, ...] = known.get((FleetSettings, "pools"), ())
    regions = sorted({pool.region for pool in pools})
    if zone and regions and zone.rpartition("-")[0] not in regions:
        allowed = f"a zone of {' or '.join(regions)}, where the fleet has a subnet"
        yield Problem(
            _path((NAMESPACE, "model", "builder", "zone")), shown(zone), allowed, "name a zone of a pool's region"
        )
    gpu, wanted = (known.get((section, "gpu_type")) for section in (BuilderSettings, FleetSettings))
    if known.get((ModelSettings, "runtime")) == "tensorrt":
        if gpu and wanted and gpu != wanted:
            remedy = "build on the GPU that serves: TensorRT plans run on no other"
            yield Problem(
                _path((NAMESPACE, "model", "builder", "gpuType")), shown(gpu), f"fleet.gpuType ({wanted})", remedy
            )
        builder, serving = (known.get((section, "container"), "") for section in (BuilderSettings, FleetSettings))
        releases = release(builder), release(serving)
        if None not in releases and releases[0] != releases[1]:
            remedy = "name containers of one monthly release: TensorRT reads the plans of its own version only"
            path = _path((NAMESPACE, "model", "builder", "container"))
            yield Problem(path, shown(builder), f"release {releases[1]}, as fleet.container", remedy)
    yield from _builder_image(known)


def _builder_image(known: Known) -> Iterator[Problem]:
    needed = (
        (FleetSettings, "image"),
        (BuilderSettings, "image"),
        (NetworkSettings, "nat"),
        (NetworkSettings, "existing"),
    )
    if not all(key in known for key in needed):
        return
    fleet, image, nat, existing = (known[key] for key in needed)
    path = _path((NAMESPACE, "model", "builder", "image"))
    if image is None and not is_stock(fleet):
        remedy = "bake one (`make image ROLE=builder`): an image baked for serving lacks the builder's container"
        yield Problem(path, "nothing", f"{EXACT_IMAGE} where fleet.image is not a stock image", remedy)
    elif image is not None and is_stock(image) and not nat and not (existing and existing.has_nat):
        remedy = "bake one (`make image ROLE=builder`), or set network.nat to true: a stock image fetches its container"
        yield Problem(path, shown(image), f"{EXACT_IMAGE} of your own where network.nat is false", remedy)


def _healed_while_starting(known: Known) -> Iterator[Problem]:
    healing: AutohealingSettings | None = known.get((FleetSettings, "autohealing"))
    cool_down = known.get((AutoscalingSettings, "cool_down_s"))
    if healing and cool_down is not None and healing.initial_delay_s < cool_down:
        path = _path((NAMESPACE, "fleet", "autohealing", "initialDelayS"))
        remedy = "raise it, or lower autoscaling.coolDownS: a VM must not be given up while it may still be starting"
        yield Problem(path, shown(healing.initial_delay_s), f"autoscaling.coolDownS ({cool_down}) or more", remedy)


def _regions_without_subnet(known: Known) -> Iterator[Problem]:
    pools: tuple[Pool, ...] = known.get((FleetSettings, "pools"), ())
    existing: ExistingNetwork | None = known.get((NetworkSettings, "existing"))
    if existing:
        for region in sorted({pool.region for pool in pools} - set(existing.subnetworks)):
            path = _path((NAMESPACE, "network", "existing", "subnetworks", region))
            allowed = f"projects/<project>/regions/{region}/subnetworks/<name>"
            yield Problem(path, "nothing", allowed, "name the subnet that the pool of this region goes to")


def _only_group_drained(known: Known) -> Iterator[Problem]:
    pools: tuple[Pool, ...] = known.get((FleetSettings, "pools"), ())
    if len(pools) == 1 and known.get((LoadBalancerSettings, "capacity_scaler")) == 0:
        path, remedy = (
            _path((NAMESPACE, "loadBalancer", "capacityScaler")),
            "raise it, or pause the fleet: fleet.paused",
        )
        yield Problem(
            path, "0", "0.1 to 1 with a single pool: Compute Engine does not drain a service's only group", remedy
        )
