"""Errors in the words of Google's APIs, as the real provider passes them on."""

from __future__ import annotations


class CloudError(Exception):
    """A call that the cloud refuses."""

    def __init__(self, code: int, message: str, reason: str) -> None:
        """`code` is the HTTP status, `reason` the API's machine-readable word such as `alreadyExists`."""
        super().__init__(f"googleapi: Error {code}: {message}, {reason}")
        self.code = code


def not_found(resource: str) -> CloudError:
    """The resource (by id) does not exist."""
    return CloudError(404, f"The resource '{resource}' was not found", "notFound")


def already_exists(resource: str) -> CloudError:
    """The name is taken."""
    return CloudError(409, f"The resource '{resource}' already exists", "alreadyExists")


def in_use(noun: str, resource: str, user: str) -> CloudError:
    """A resource cannot go while another refers to it; `noun` is Compute Engine's, such as `instance_template`."""
    return CloudError(
        400,
        f"The {noun} resource '{resource}' is already being used by '{user}'",
        "resourceInUseByAnotherResource",
    )


def invalid(field: str, value: object, problem: str) -> CloudError:
    """A value that only the API refuses."""
    return CloudError(400, f"Invalid value for field 'resource.{field}': '{value}'. {problem}", "invalid")
