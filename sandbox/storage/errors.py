"""Errors as the JSON API words them (Google Cloud, "HTTP status and error codes for JSON", 2026-11)."""

from __future__ import annotations

from typing import Any, Literal


class StorageError(Exception):
    """An answer other than success. Its text is what Google's Go client, and so the provider, prints."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"googleapi: Error {code}: {message}, {reason}")
        self.code = code
        self.reason = reason
        self.message = message

    def body(self) -> dict[str, Any]:
        """The response's JSON."""
        error = {"message": self.message, "domain": "global", "reason": self.reason}
        return {"error": {"code": self.code, "message": self.message, "errors": [error]}}


def no_such_bucket() -> StorageError:
    """404 for a bucket."""
    return StorageError(404, "notFound", "The specified bucket does not exist.")


def no_such_object(bucket: str, name: str) -> StorageError:
    """404 for an object."""
    return StorageError(404, "notFound", f"No such object: {bucket}/{name}")


def condition_not_met() -> StorageError:
    """412."""
    return StorageError(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")


def denied(email: str, permission: str, resource: Literal["bucket", "object", "project"]) -> StorageError:
    """403 for a caller, 401 for nobody."""
    who = email or "Anonymous caller"
    return StorageError(
        403 if email else 401,
        "forbidden" if email else "required",
        f"{who} does not have {permission} access to the Google Cloud "
        f"{'project' if resource == 'project' else f'Storage {resource}'}. Permission '{permission}' denied on "
        "resource (or it may not exist).",
    )


def bad_request(message: str) -> StorageError:
    """400."""
    return StorageError(400, "invalid", message)


def not_modelled(what: str) -> StorageError:
    """501, which Google never answers here: something that the sandbox does not know, by name."""
    return StorageError(501, "notImplemented", f"the sandbox's Cloud Storage does not model {what}")
