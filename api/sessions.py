"""Dashboard logins: a signed cookie that names a token, never the token itself.

A cookie reads ``<token id>.<expiry, seconds since 1970>.<HMAC-SHA-256>``. Revoking the token ends
its logins; the CSRF token of a login is another HMAC over its cookie.
"""

import hmac
import os
import secrets
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

from domain.errors import Unauthenticated

COOKIE = "partlab_session"
CSRF_HEADER = "X-CSRF-Token"


class Sessions:
    """Signs and reads login cookies."""

    def __init__(self, key: str | None, key_file: Path, lifetime: timedelta) -> None:
        """Use ``key``, or the one in ``key_file``, which is made at first need."""
        self._given, self._file = key, key_file
        self.lifetime = lifetime

    @cached_property
    def _key(self) -> bytes:
        if self._given is not None:
            return self._given.encode()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        _make_key(self._file)
        return self._file.read_bytes()

    def issue(self, token_id: str, now: datetime) -> str:
        """Return the cookie of a new login."""
        head = f"{token_id}.{int((now + self.lifetime).timestamp())}"
        return f"{head}.{self._sign('login', head)}"

    def read(self, cookie: str, now: datetime) -> str:
        """Return the token id behind a cookie. Raises Unauthenticated."""
        head, _, signature = cookie.rpartition(".")
        token_id, _, expires = head.rpartition(".")
        if not self._matches(signature, "login", head) or int(expires) <= now.timestamp():
            raise Unauthenticated("This login is over; log in again.")
        return token_id

    def csrf(self, cookie: str) -> str:
        """Return the proof that a request comes from a page of this login."""
        return self._sign("csrf", cookie)

    def proves(self, proof: str, cookie: str) -> bool:
        """Tell whether ``proof`` is that one."""
        return self._matches(proof, "csrf", cookie)

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.digest(self._key, f"{purpose}:{text}".encode(), "sha256").hex()

    def _matches(self, signature: str, purpose: str, text: str) -> bool:
        return hmac.compare_digest(signature.encode(), self._sign(purpose, text).encode())


def _make_key(file: Path) -> None:
    """Write a key unless there is one; of several processes that try, one succeeds."""
    part = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(secrets.token_hex(32))
    try:
        file.hardlink_to(part)
    except FileExistsError:
        """Another process, or an earlier start, made it."""
    part.unlink()
