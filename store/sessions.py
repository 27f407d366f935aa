"""Dashboard logins stand on a token: they end when it is revoked."""

import hashlib

import sqlalchemy as sa
from sqlalchemy import Connection

from domain.errors import Unauthenticated
from store.rows import User
from store.tables import tokens, users


def token_id(connection: Connection, secret: str) -> str:
    """Return the id of a valid token. Raises Unauthenticated."""
    hashed = hashlib.sha256(secret.encode()).hexdigest()
    found: str | None = connection.scalar(
        sa.select(tokens.c.id).where(
            tokens.c.secret_sha256 == hashed, tokens.c.revoked_at.is_(None)
        )
    )
    if found is None:
        raise Unauthenticated("This token is unknown or was revoked.")
    return found


def holder(connection: Connection, token: str) -> User:
    """Return whose token has this id. Raises Unauthenticated when it was revoked."""
    row = connection.execute(
        sa.select(users.c.name, users.c.role)
        .join(tokens, users.c.name == tokens.c.user_name)
        .where(tokens.c.id == token, tokens.c.revoked_at.is_(None))
    ).one_or_none()
    if row is None:
        raise Unauthenticated("The token behind this login was revoked.")
    return User(row.name, row.role)
