"""What VMs are told at boot: the metadata that their startup scripts and `python -m serving` read."""

import json
from pathlib import Path

import pulumi

import contract
from components.artifact_key import wanted
from components.model_build import ModelBuild
from components.naming import Names
from components.settings import Settings
from components.uploads import Upload, uploaded


def serving_metadata(
    repository: Path, names: Names, settings: Settings, model: ModelBuild
) -> dict[str, pulumi.Input[str]]:
    """Metadata by key, the startup script included: so that a changed script is a changed template."""
    chosen = {
        "access_log_sample": (settings.observability.access_log_sample, contract.ACCESS_LOG_SAMPLE),
        "queue_deadline_s": (settings.load_balancer.queue_deadline_s, contract.QUEUE_DEADLINE_S),
    }
    limits = {name: value for name, (value, default) in chosen.items() if value != default}
    return {
        contract.STARTUP_SCRIPT_KEY: (repository / "startup" / "serving.sh").read_text(encoding="utf-8"),
        contract.ARTIFACT_KEY: model.model_uri,
        contract.CODE_KEY: model.code_uri,
        contract.CODE_SHA256_KEY: model.code_sha256,
        contract.CONTAINER_KEY: settings.fleet.container,
        contract.GPU_COUNT_KEY: str(settings.fleet.gpu_count),
        contract.STACK_KEY: f"{names.program}/{names.stack}",
        contract.MODEL_VERSION_KEY: str(settings.model.version),
        contract.METRIC_SOURCE_KEY: settings.autoscaling.metric_source,
        **({contract.SERVING_LIMITS_KEY: json.dumps(limits)} if limits else {}),
    }


def builder_metadata(
    repository: Path, names: Names, settings: Settings, sent: tuple[Upload, ...]
) -> dict[str, pulumi.Input[str]]:
    """Metadata of a builder VM by key, without the addresses that ModelBuild knows.

    `sent` is what it finds uploaded.
    """
    on_gpu = settings.model.runtime == "tensorrt"
    return {
        contract.STARTUP_SCRIPT_KEY: (repository / "startup" / "builder.sh").read_text(encoding="utf-8"),
        contract.CONTAINER_KEY: settings.model.builder.container,
        contract.GPU_COUNT_KEY: str(int(on_gpu)),
        contract.STACK_KEY: f"{names.program}/{names.stack}",
        contract.BUILD_REQUEST_KEY: uploaded(wanted(settings), sent).model_dump_json(),
    }
