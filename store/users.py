"""Users and their bearer tokens. Only hashes of secrets are stored."""

import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from domain.errors import Conflict, NotFound, Unauthenticated
from domain.ids import new_id
from store.rows import GroupRow, Role, TokenRow, User, UserRow
from store.tables import groups, tokens, users

PREFIX = "part_"
USED_AGAIN = timedelta(minutes=1)


def create_user(connection: Connection, name: str, role: Role, now: datetime) -> User:
    """Add a user. Raises Conflict when the name is taken."""
    if connection.scalar(sa.select(users.c.name).where(users.c.name == name)) is not None:
        raise Conflict(f"There is a user {name!r} already.")
    connection.execute(users.insert().values(name=name, role=role, created_at=now, usage_at=now))
    return User(name, role)


def get_user(connection: Connection, name: str) -> User:
    """Return a user. Raises NotFound."""
    row = connection.execute(sa.select(users).where(users.c.name == name)).one_or_none()
    if row is None:
        raise NotFound("user", name)
    return User(row.name, row.role)


def issue_token(connection: Connection, user: str, *, label: str, now: datetime) -> str:
    """Make a token of 256 random bits and return its secret, the only time it is seen.

    Raises NotFound when there is no such user.
    """
    get_user(connection, user)
    secret = PREFIX + secrets.token_urlsafe(32)
    connection.execute(
        tokens.insert().values(
            id=new_id(now),
            user_name=user,
            label=label,
            secret_sha256=_sha256(secret),
            created_at=now,
        )
    )
    return secret


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def authenticate(connection: Connection, secret: str) -> User:
    """Return whose token it is. Raises Unauthenticated.

    The look-up is by hash, so its timing tells nothing of the secret.
    """
    row = connection.execute(
        sa.select(tokens.c.id, users.c.name, users.c.role)
        .join(users, users.c.name == tokens.c.user_name)
        .where(tokens.c.secret_sha256 == _sha256(secret), tokens.c.revoked_at.is_(None))
    ).one_or_none()
    if row is None:
        raise Unauthenticated("This token is unknown or was revoked.")
    return User(row.name, row.role)


def note_use(connection: Connection, secret: str, now: datetime) -> None:
    """Remember that a token was used, to the minute."""
    stale = sa.or_(tokens.c.last_used_at.is_(None), tokens.c.last_used_at < now - USED_AGAIN)
    connection.execute(
        tokens.update()
        .where(tokens.c.secret_sha256 == _sha256(secret), stale)
        .values(last_used_at=now)
    )


def revoke(connection: Connection, token_id: str, now: datetime) -> None:
    """End a token. Raises NotFound."""
    mine = tokens.c.id == token_id
    changed = connection.execute(
        tokens.update()
        .where(mine)
        .values(
            revoked_at=sa.func.coalesce(
                tokens.c.revoked_at, sa.literal(now, tokens.c.revoked_at.type)
            )
        )
    )
    if changed.rowcount != 1:
        raise NotFound("token", token_id)


def list_tokens(connection: Connection) -> list[TokenRow]:
    """Return every token, newest first."""
    columns = [c for c in tokens.c if c.name != "secret_sha256"]
    rows = connection.execute(sa.select(*columns).order_by(tokens.c.id.desc()))
    return [TokenRow(**row._mapping) for row in rows]


# -- shares and quotas ------------------------------------------------------------------------


def set_limits(connection: Connection, name: str, changes: Mapping[str, object]) -> UserRow:
    """Change a user's share, group or quotas; None takes a group or quota away.

    changes: of `share`, `group_name`, `most_running`, `most_queued` and `most_hours`.

    Raises NotFound when there is no such user, or no such group.
    """
    get_user(connection, name)
    group = changes.get("group_name")
    if group is not None:
        known = connection.scalar(sa.select(groups.c.name).where(groups.c.name == group))
        if known is None:
            raise NotFound("group", str(group))
    if changes:
        connection.execute(users.update().where(users.c.name == name).values(dict(changes)))
    return next(row for row in list_users(connection) if row.name == name)


def list_users(connection: Connection) -> list[UserRow]:
    """Return every user with share, group and quotas, by name."""
    names = ("name", "role", "share", "group_name", "most_running", "most_queued", "most_hours")
    rows = connection.execute(sa.select(*(users.c[n] for n in names)).order_by(users.c.name))
    return [UserRow(**row._mapping) for row in rows]


def put_group(connection: Connection, name: str, share: float) -> GroupRow:
    """Make a group, or give it another share."""
    same = groups.c.name == name
    if connection.execute(groups.update().where(same).values(share=share)).rowcount == 0:
        connection.execute(groups.insert().values(name=name, share=share))
    return GroupRow(name, share)


def list_groups(connection: Connection) -> list[GroupRow]:
    """Return every group, by name."""
    rows = connection.execute(sa.select(groups).order_by(groups.c.name))
    return [GroupRow(row.name, row.share) for row in rows]
