"""Buckets, objects and bucket bindings; objects are kept by Cloud Storage's stand-in."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import ClassVar, Final

from sandbox.provider.check import Failure
from sandbox.provider.cloud import Cloud, ProviderConfig
from sandbox.provider.errors import CloudError
from sandbox.provider.kinds.base import Kind, Plan, known, labels, now
from sandbox.provider.kinds.iam import Member
from sandbox.provider.wire import Json, asset_bytes
from sandbox.storage.errors import StorageError

BUCKET: Final = "gcp:storage/bucket:Bucket"
_BUCKET_NAME: Final = re.compile(r"[a-z0-9][-_.a-z0-9]{1,220}[a-z0-9]")
_STORAGE_ROOT: Final = "https://www.googleapis.com/storage/v1"


class Bucket(Kind):
    """A bucket."""

    pulumi_type = BUCKET
    noun = "bucket"
    filled: ClassVar[Json] = {
        "publicAccessPrevention": "inherited",
        "uniformBucketLevelAccess": False,
        "softDeletePolicy": {"retentionDurationSeconds": 604800},
    }

    def failures(self, inputs: Json) -> Iterator[Failure]:
        """The name's form (Cloud Storage, "Bucket names")."""
        if not known(inputs, "name"):
            return
        name = inputs["name"]
        longest = max(len(part) for part in name.split("."))
        if not _BUCKET_NAME.fullmatch(name) or longest > 63 or name.startswith("goog") or "google" in name:
            yield Failure(
                "name",
                f"name {name!r} must be 3 to 63 lower-case letters, digits, hyphens, underscores and dots, begin and "
                "end with a letter or digit, and neither begin with goog nor contain google",
            )

    def identifier(self, inputs: Json, config: ProviderConfig) -> str:
        """Its name."""
        name: str = inputs["name"]
        return name

    def already_exists(self, identifier: str) -> CloudError:
        """Names are global."""
        return CloudError(
            409, "Your previous request to create the named bucket succeeded and you already own it.", "conflict"
        )

    def outputs(self, plan: Plan, cloud: Cloud) -> Json:
        """Addresses, times and labels."""
        name = plan.identifier
        return labels(plan.inputs, plan.config) | {
            "location": plan.inputs["location"].upper(),
            "project": plan.inputs.get("project") or plan.config.project,
            "projectNumber": cloud.settings.project_number,
            "selfLink": f"{_STORAGE_ROOT}/b/{name}",
            "url": f"gs://{name}",
            "timeCreated": plan.old.get("timeCreated") or now(),
            "updated": now(),
        }

    def equivalent(self, pattern: str, old: object, new: object) -> bool:
        """Locations know no case (terraform-provider-google, `location` of `resource_storage_bucket.go`)."""
        if pattern == "location" and isinstance(old, str) and isinstance(new, str):
            return old.upper() == new.upper()
        return super().equivalent(pattern, old, new)

    async def create(self, plan: Plan, state: Json, cloud: Cloud) -> Json:
        """Make it; a bucket that a killed predecessor made is this one."""
        try:
            await cloud.buckets.create_bucket(plan.identifier)
        except StorageError as error:
            if error.code != HTTPStatus.CONFLICT:
                raise
        return state

    async def delete(self, identifier: str, state: Json, cloud: Cloud) -> None:
        """Objects that the program did not make keep a bucket, unless `forceDestroy`."""
        force = state.get("forceDestroy") is True
        with _absent_is_fine():
            if not force and await cloud.buckets.object_count(identifier):
                problem = "containing objects without `force_destroy` set to true"
                raise CloudError(409, f"Error trying to delete bucket {identifier} {problem}", "conflict")
            await cloud.buckets.delete_bucket(identifier, force)


class BucketObject(Kind):
    """An object that the program writes."""

    overwrites = True

    pulumi_type = "gcp:storage/bucketObject:BucketObject"
    noun = "object"
    filled: ClassVar[Json] = {"storageClass": "STANDARD"}

    def failures(self, inputs: Json) -> Iterator[Failure]:
        """One content (terraform-provider-google `resource_storage_bucket_object.go`, ExactlyOneOf)."""
        if ("content" in inputs) == ("source" in inputs):
            yield Failure("source", "set exactly one of source and content")

    def identifier(self, inputs: Json, config: ProviderConfig) -> str:
        """`<bucket>-<name>`, as in terraform-provider-google."""
        return f"{inputs['bucket']}-{inputs['name']}"

    def outputs(self, plan: Plan, cloud: Cloud) -> Json:
        """Addresses; what depends on the content comes from the store of objects."""
        bucket, name = plan.inputs["bucket"], plan.inputs["name"]
        own = {key: plan.old[key] for key in ("crc32c", "generation", "md5hash", "md5hexhash") if key in plan.old}
        return own | {
            "contentType": plan.inputs.get("contentType", "application/octet-stream"),
            "mediaLink": f"{_STORAGE_ROOT.replace('/storage/', '/download/storage/')}/b/{bucket}/o/{name}?alt=media",
            "outputName": name,
            "selfLink": f"{_STORAGE_ROOT}/b/{bucket}/o/{name}",
        }

    async def create(self, plan: Plan, state: Json, cloud: Cloud) -> Json:
        """Write it."""
        inputs = plan.inputs
        data = asset_bytes(inputs["source"], cloud.program) if "source" in inputs else inputs["content"].encode()
        written = await cloud.buckets.put_object(inputs["bucket"], inputs["name"], data, state["contentType"])
        return state | {
            "generation": int(written["generation"]),
            "md5hash": written["md5Hash"],
            "md5hexhash": base64.b64decode(written["md5Hash"]).hex(),
            "crc32c": written["crc32c"],
        }

    async def update(self, plan: Plan, state: Json, cloud: Cloud) -> Json:
        """Changed content is written over the old in place."""
        if plan.inputs.get("content") == plan.old.get("content"):
            return state
        return await self.create(plan, state, cloud)

    async def delete(self, identifier: str, state: Json, cloud: Cloud) -> None:
        """Remove it."""
        with _absent_is_fine():
            await cloud.buckets.delete_object(state["bucket"], state["name"])


class BucketMember(Member):
    """One role for one member on a bucket."""

    pulumi_type = "gcp:storage/bucketIAMMember:BucketIAMMember"
    noun = "iam_member"

    def identifier(self, inputs: Json, config: ProviderConfig) -> str:
        """`b/<bucket>/<role>/<member>`."""
        return f"b/{inputs['bucket'].removeprefix('b/')}/{inputs['role']}/{inputs['member']}"

    async def create(self, plan: Plan, state: Json, cloud: Cloud) -> Json:
        """The bucket must be there, whoever made it: asking for its objects raises 404 otherwise."""
        await cloud.buckets.object_count(plan.inputs["bucket"].removeprefix("b/"))
        return state


@contextmanager
def _absent_is_fine() -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        if error.code != HTTPStatus.NOT_FOUND:
            raise


KINDS: tuple[Kind, ...] = (Bucket(), BucketObject(), BucketMember())
