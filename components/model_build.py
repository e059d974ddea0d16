"""The model artifact: where it lies, who may write and read it, what builds it and the code that serves it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_gcp as gcp

import contract
from components.builder import Builder, BuilderArgs
from components.bundle import Bundle
from components.naming import BucketRole, Names
from components.settings import Settings
from components.uploads import Upload, foreign_buckets

OBJECT_VIEWER: Final = "roles/storage.objectViewer"
OBJECT_CREATOR: Final = "roles/storage.objectCreator"
"""Creates objects and cannot replace any: whoever builds a model cannot change a published one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBuildArgs:
    """One model for one fleet."""

    names: Names
    settings: Settings
    key: str
    """Key of the artifact that the configuration asks for, known before it is built."""
    code: Bundle
    """What serving VMs run."""
    builder_code: Bundle
    """What the builder VM runs."""
    uploads: Sequence[Upload]
    """Files of this machine that the builder VM needs."""
    builder_metadata: Mapping[str, pulumi.Input[str]]
    """What it is told, without the addresses of code and artifact."""
    builder_subnetwork: pulumi.Input[str]
    builder_email: pulumi.Input[str]
    builder_member: pulumi.Input[str]
    builder_needs: Sequence[pulumi.Resource]
    """What the builder VM needs from its first second."""
    builder_hooks: pulumi.ResourceHookBinding | None = None
    """Of the builder VM."""
    serving_member: pulumi.Input[str]


class ModelBuild(pulumi.ComponentResource):
    """Buckets for what goes into a model build and what comes out of it, with their access, the code and the builder.

    There is no builder where the settings name a ready artifact. Outputs: `model_key`, `model_uri`
    (`gs://bucket/models/<key>/`), `artifact_bucket`, `code_uri` and its `code_sha256`, `bindings`, without which a
    serving VM reads nothing, and `builders`: the VM that makes the artifact, or nothing.
    """

    model_key: str
    model_uri: pulumi.Output[str]
    artifact_bucket: pulumi.Output[str]
    code_uri: pulumi.Output[str]
    code_sha256: str
    bindings: list[pulumi.Resource]
    builders: list[pulumi.Resource]

    def __init__(self, name: str, args: ModelBuildArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tensorrt-fleet:model:ModelBuild", name, None, opts)
        self._name, self._args = name, args
        inputs = self._bucket("inputs")
        shared, ready = args.settings.storage.artifact_bucket, args.settings.model.ready
        if shared:
            self.artifact_bucket = pulumi.Output.from_input(shared)
        else:
            self.artifact_bucket = self._bucket("artifacts")
        # Named by their bucket where it can change: as one resource whose bucket changes, a way back after a failed
        # `up` would end with the deletion that the failed one had still to do, of the very binding just made.
        artifacts = f"artifacts-{shared}" if shared else "artifacts"
        builder_bindings = [
            self._grant("inputs-builder-reads", inputs, OBJECT_VIEWER, args.builder_member),
            self._grant(f"{artifacts}-builder-creates", self.artifact_bucket, OBJECT_CREATOR, args.builder_member),
            self._grant(f"{artifacts}-builder-reads", self.artifact_bucket, OBJECT_VIEWER, args.builder_member),
            *(
                self._grant(f"source-{bucket}-builder-reads", bucket, OBJECT_VIEWER, args.builder_member)
                for bucket in foreign_buckets(args.settings)
                if bucket not in {shared, args.names.bucket("inputs"), args.names.bucket("artifacts")}
            ),
        ]
        self.bindings = [
            self._grant("inputs-serving-reads", inputs, OBJECT_VIEWER, args.serving_member),
            self._grant(f"{artifacts}-serving-reads", self.artifact_bucket, OBJECT_VIEWER, args.serving_member),
        ]
        if ready:
            self.model_key, self.model_uri = ready.key, pulumi.Output.from_input(str(ready))
            if ready.bucket not in {shared, args.names.bucket("artifacts")}:
                self.bindings.append(
                    self._grant(f"ready-{ready.bucket}-serving-reads", ready.bucket, OBJECT_VIEWER, args.serving_member)
                )
        else:
            self.model_key = args.key
            self.model_uri = pulumi.Output.concat("gs://", self.artifact_bucket, "/models/", args.key, "/")
        self.code_sha256 = args.code.sha256
        self.code_uri = self._code("serving-code", inputs, args.code)
        sent = [self._upload(inputs, upload) for upload in args.uploads]
        self.builders = [] if ready else [self._builder(inputs, [*builder_bindings, *sent])]
        self.register_outputs({"modelUri": self.model_uri, "artifactBucket": self.artifact_bucket})

    def _bucket(self, role: BucketRole) -> pulumi.Output[str]:
        names = self._args.names
        bucket = gcp.storage.Bucket(
            f"{self._name}-{role}",
            project=names.project,
            name=names.bucket(role),
            location=names.region.upper(),
            uniform_bucket_level_access=True,
            public_access_prevention="enforced",
            force_destroy=self._args.settings.storage.force_destroy,
            opts=pulumi.ResourceOptions(parent=self, protect=self._args.settings.storage.protect),
        )
        return bucket.name

    def _grant(self, role: str, bucket: pulumi.Input[str], grant: str, member: pulumi.Input[str]) -> pulumi.Resource:
        return gcp.storage.BucketIAMMember(
            f"{self._name}-{role}",
            bucket=bucket,
            role=grant,
            member=member,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _builder(self, inputs: pulumi.Input[str], needs: Sequence[pulumi.Resource]) -> pulumi.Resource:
        args = self._args
        addresses: dict[str, pulumi.Input[str]] = {
            contract.ARTIFACT_KEY: self.model_uri,
            contract.CODE_KEY: self._code("builder-code", inputs, args.builder_code),
            contract.CODE_SHA256_KEY: args.builder_code.sha256,
        }
        vm = BuilderArgs(
            names=args.names,
            settings=args.settings,
            key=args.key,
            subnetwork=args.builder_subnetwork,
            service_account=args.builder_email,
            metadata={**args.builder_metadata, **addresses},
            boot_needs=[*args.builder_needs, *needs],
            hooks=args.builder_hooks,
        )
        return Builder(f"{self._name}-builder", vm, pulumi.ResourceOptions(parent=self)).instance

    def _upload(self, bucket: pulumi.Input[str], upload: Upload) -> pulumi.Resource:
        return gcp.storage.BucketObject(
            f"{self._name}-{upload.field}",
            bucket=bucket,
            name=upload.stored.name,
            source=pulumi.FileAsset(upload.path.as_posix()),
            content_type="application/octet-stream",
            # Its name is its content, so another one can be there before this one goes.
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=False),
        )

    def _code(self, role: str, bucket: pulumi.Input[str], code: Bundle) -> pulumi.Output[str]:
        """Upload a bundle; its address."""
        uploaded = gcp.storage.BucketObject(
            f"{self._name}-{role}",
            bucket=bucket,
            name=code.object_name,
            source=pulumi.FileAsset(code.path.as_posix()),
            content_type="application/gzip",
            # VMs of the previous template boot from the previous bundle until the rollout is through, and again if it
            # is stopped halfway: a bundle outlives the plan that replaced it. The provider deletes what the program
            # names before it replaces it, and would take the template along, which the group still uses.
            opts=pulumi.ResourceOptions(parent=self, retain_on_delete=True, delete_before_replace=False),
        )
        return pulumi.Output.concat("gs://", uploaded.bucket, "/", uploaded.name)
