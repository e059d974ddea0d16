"""Asks a container registry what a tag names now: the OCI distribution API, without an account.

Sources: OCI Distribution Specification 1.1 (manifests, blobs), Distribution "Token Authentication Specification" (the
challenge and its answer), OCI Image Specification 1.1 (index, manifest, configuration).
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from dataclasses import dataclass
from typing import Any, Final

import requests

from client.errors import ClientError, UnavailableError

_REFERENCE = re.compile(
    r"(?P<registry>[a-z0-9][a-z0-9.-]*(?::[0-9]+)?)/(?P<repository>[a-z0-9._/-]+?)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]*))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_MANIFESTS: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of one answer: what registries take for a manifest (OCI Distribution Specification 1.1)."""
_TIMEOUT_S: Final = 30.0
_PLATFORM: Final = ("linux", "amd64")

VERSION_NAMES: Final = {
    "TensorRT": ("TRT_VERSION", "TENSORRT_VERSION"),
    "Triton": ("TRITON_SERVER_VERSION", "com.nvidia.tritonserver.version"),
}
"""Product -> environment variables and labels that tell its version. Triton's are those that its own build.py writes
(triton-inference-server/server); TensorRT's are what NVIDIA's images were seen to carry, and are not documented."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A container by name."""

    registry: str
    repository: str
    tag: str
    digest: str
    """`sha256:...`, or empty."""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read `registry/path:tag[@sha256:digest]`. Raises ClientError."""
        match = _REFERENCE.fullmatch(text)
        if match is None:
            raise ClientError(f"{text!r} names no container", "Write <registry>/<path>:<tag>.")
        return cls(
            registry=match["registry"],
            repository=match["repository"],
            tag=match["tag"] or "",
            digest=match["digest"] or "",
        )

    def pinned(self, digest: str) -> str:
        """Tag for people, digest for machines."""
        return f"{self.registry}/{self.repository}:{self.tag}@{digest}"

    @property
    def root(self) -> str:
        """Base address of the registry: encrypted, save on this very machine (as Docker does it)."""
        host = "registry-1.docker.io" if self.registry == "docker.io" else self.registry
        return f"{'http' if _is_loopback(host.partition(':')[0]) else 'https'}://{host}/v2/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a tag names."""

    digest: str
    versions: dict[str, str]
    """Product -> version, as far as the image tells."""


def look_up(reference: Reference) -> Found:
    """Ask the registry for a tag's digest and for the versions that the image tells of itself.

    Raises:
        UnavailableError: the registry does not answer. ClientError: it refuses, or its answer is damaged.
    """
    registry = _Registry(reference)
    digest, manifest = registry.manifest(reference.tag)
    if "manifests" in manifest:
        _, manifest = registry.manifest(_for_platform(reference, manifest))
    blob = str((manifest.get("config") or {}).get("digest", ""))
    return Found(digest=digest, versions=versions(registry.blob(blob)))


def versions(configuration: dict[str, Any]) -> dict[str, str]:
    """Versions that an image's configuration tells (VERSION_NAMES), build metadata after `+` left out."""
    config = configuration.get("config") or {}
    told = dict(entry.partition("=")[::2] for entry in config.get("Env") or ())
    told |= config.get("Labels") or {}
    found = {
        product: next((told[name] for name in names if told.get(name)), "") for product, names in VERSION_NAMES.items()
    }
    return {product: version.partition("+")[0] for product, version in found.items() if version}


def challenge(header: str) -> dict[str, str]:
    """Parameters of `WWW-Authenticate: Bearer realm="...",service="...",scope="..."`; empty for another scheme."""
    scheme, _, rest = header.strip().partition(" ")
    return dict(_PARAMETER.findall(rest)) if scheme.lower() == "bearer" else {}


class _Registry:
    """One repository of one registry."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._session = requests.Session()

    def manifest(self, name: str) -> tuple[str, dict[str, Any]]:
        """Digest and content of a manifest or index, by tag or digest."""
        answer = self._get(f"manifests/{name}", {"Accept": ", ".join(_MANIFESTS)})
        content = answer.content
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        told = answer.headers.get("Docker-Content-Digest", digest)
        expected = name if name.startswith("sha256:") else told
        if digest not in {told, expected} or told != expected:
            raise self._damaged(f"manifest {name}", expected, digest)
        return digest, self._object(content, f"manifest {name}")

    def blob(self, digest: str) -> dict[str, Any]:
        """A JSON blob."""
        content = self._get(f"blobs/{digest}", {}).content
        found = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if found != digest:
            raise self._damaged("configuration", digest, found)
        return self._object(content, "configuration")

    def _get(self, path: str, headers: dict[str, str]) -> requests.Response:
        url = f"{self._reference.root}{self._reference.repository}/{path}"
        answer = self._send(url, headers)
        if answer.status_code == 401:
            asked = challenge(answer.headers.get("WWW-Authenticate", ""))
            self._session.headers["Authorization"] = f"Bearer {self._token(asked)}"
            answer = self._send(url, headers)
        if answer.status_code == 404:
            raise ClientError(f"{url} answered 404: there is no such tag or image", "Correct the container's name.")
        if answer.status_code in {401, 403}:
            raise self._login(f"{url} answered {answer.status_code}")
        if not answer.ok:
            raise UnavailableError(f"{url} answered {answer.status_code}", "Try again in a moment.")
        return answer

    def _token(self, asked: dict[str, str]) -> str:
        """An anonymous token. `service` is sent only where the challenge names one: nvcr.io's names none."""
        realm = asked.get("realm", "")
        if not realm.startswith(self._reference.root.partition("//")[0]):
            raise self._login("it asks for a login that is not the token flow over HTTPS")
        scope = f"repository:{self._reference.repository}:pull"
        parameters = {"scope": scope} | ({"service": asked["service"]} if asked.get("service") else {})
        answer = self._send(realm, {}, parameters)
        if not answer.ok:
            raise self._login(f"{realm} answered {answer.status_code}")
        body = self._object(answer.content, "token")
        return str(body.get("token") or body.get("access_token") or "")

    def _send(self, url: str, headers: dict[str, str], parameters: dict[str, str] | None = None) -> requests.Response:
        try:
            answer = self._session.get(url, headers=headers, params=parameters, timeout=_TIMEOUT_S, stream=True)
            body = answer.raw.read(_LIMIT + 1, decode_content=True)
        except (requests.RequestException, OSError) as error:
            raise UnavailableError(
                f"{url} did not answer: {type(error).__name__}", "Check the network and the name, then try again."
            ) from error
        if len(body) > _LIMIT:
            raise ClientError(f"{url} answered more than {_LIMIT} bytes", "Is it a container registry?")
        answer._content = body  # noqa: SLF001 - requests has no other way to bound what it reads
        return answer

    def _object(self, content: bytes, what: str) -> dict[str, Any]:
        # nvcr.io labels JSON as text, so the content type tells nothing.
        try:
            value = json.loads(content)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise ClientError(
                f"{self._reference.registry} answered a {what} that is no JSON object", "Is it a container registry?"
            )
        return value

    def _login(self, why: str) -> ClientError:
        return ClientError(
            f"{self._reference.registry} tells nothing to a guest: {why}",
            "Pull the container with an account, and write the digest that `docker images --digests` shows.",
        )

    def _damaged(self, what: str, expected: str, found: str) -> ClientError:
        return ClientError(
            f"the {what} from {self._reference.registry} is damaged: {found}, not {expected}", "Try again."
        )


def _for_platform(reference: Reference, index: dict[str, Any]) -> str:
    for entry in index["manifests"]:
        platform = entry.get("platform") or {}
        if (platform.get("os"), platform.get("architecture")) == _PLATFORM:
            return str(entry["digest"])
    raise ClientError(
        f"{reference.registry}/{reference.repository}:{reference.tag} has no image for {'/'.join(_PLATFORM)}",
        "Name a container that runs on N1 machines.",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
