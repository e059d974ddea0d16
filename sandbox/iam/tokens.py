"""Opaque access tokens, bound to an e-mail and kept in the store as digests."""

from __future__ import annotations

import hashlib
import secrets
import time

from sandbox.store import Store

LIFETIME_S = 3599
"""As long as Google's metadata server says of a fresh token."""

_KIND = "token"


class Tokens:
    """Issues and recognises access tokens."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def issue(self, email: str) -> str:
        """A new token for the service account `email`, valid for LIFETIME_S seconds."""
        now = time.time()
        for name, record in self._store.items(_KIND):
            if record["expires"] <= now:
                self._store.delete(_KIND, name)
        token = f"ya29.sandbox-{secrets.token_urlsafe(48)}"
        self._store.put(_KIND, _digest(token), {"email": email, "expires": now + LIFETIME_S})
        return token

    def email_of(self, token: str) -> str | None:
        """The e-mail that a live token stands for; None for an unknown or expired one."""
        record = self._store.get(_KIND, _digest(token))
        if record is None or record["expires"] <= time.time():
            return None
        email: str = record["email"]
        return email


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
