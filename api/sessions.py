"""Dashboard logins: a signed cookie that names a token, never the token itself.

A cookie reads ``<token id>.<expiry, seconds since 1970>.<signature>``. Revoking the token ends its
logins; the CSRF token of a login is another signature, of its cookie.
"""

import hashlib
import os
import secrets
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

from itsdangerous import BadSignature, Signer

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
        expires = int((now + self.lifetime).timestamp())
        return self._signer("login").sign(f"{token_id}.{expires}").decode()

    def read(self, cookie: str, now: datetime) -> str:
        """Return the token id behind a cookie. Raises Unauthenticated."""
        try:
            token_id, _, expires = self._signer("login").unsign(cookie).decode().rpartition(".")
        except BadSignature:
            token_id, expires = "", "0"
        if int(expires) <= now.timestamp():
            raise Unauthenticated("This login is over; log in again.")
        return token_id

    def csrf(self, cookie: str) -> str:
        """Return the proof that a request comes from a page of this login."""
        return self._signer("csrf").get_signature(cookie).decode()

    def proves(self, proof: str, cookie: str) -> bool:
        """Tell whether ``proof`` is that one."""
        return self._signer("csrf").verify_signature(cookie, proof)

    def _signer(self, purpose: str) -> Signer:
        return Signer(self._key, salt=purpose, key_derivation="hmac", digest_method=hashlib.sha256)


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
