"""Users and tokens, for administrators."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from api.auth import administrator
from api.lab import TheLab
from api.models import (
    GroupAnswer,
    GroupShare,
    IssuedToken,
    Items,
    Limits,
    LimitsAnswer,
    NewToken,
    NewUser,
    Token,
    UserAnswer,
    UserName,
    items,
)
from api.routes import PREFIX, RunId, WorkerName
from store import fleet, users
from store.engine import database_now
from store.rows import GroupRow, SlotKind, User, UserRow

router = APIRouter(prefix=PREFIX, tags=["administration"], dependencies=[Depends(administrator)])


@router.post("/users", status_code=201, response_model=UserAnswer)
def create_user(body: NewUser, lab: TheLab) -> User:
    """Add a user."""
    with lab.writing() as connection:
        return users.create_user(connection, body.name, body.role, database_now(connection))


@router.get("/users", response_model=Items[LimitsAnswer])
def list_users(lab: TheLab) -> object:
    """List users with their shares, groups and quotas."""
    with lab.reading() as connection:
        return items(users.list_users(connection))


@router.patch("/users/{name}", response_model=LimitsAnswer)
def limit_user(name: UserName, body: Limits, lab: TheLab) -> UserRow:
    """Change a user's share, group or quotas."""
    with lab.writing() as connection:
        return users.set_limits(connection, name, body.changes)


@router.get("/groups", response_model=Items[GroupAnswer])
def list_groups(lab: TheLab) -> object:
    """List groups and their shares."""
    with lab.reading() as connection:
        return items(users.list_groups(connection))


@router.put("/groups/{name}", response_model=GroupAnswer)
def put_group(name: UserName, body: GroupShare, lab: TheLab) -> GroupRow:
    """Make a group, or give it another share."""
    with lab.writing() as connection:
        return users.put_group(connection, name, body.share)


@router.post("/workers/{name}/drain", status_code=204)
def drain_worker(name: WorkerName, lab: TheLab) -> None:
    """Give a worker nothing more; what it has runs to its end."""
    with lab.writing() as connection:
        fleet.drain(connection, name, draining=True)


@router.post("/workers/{name}/undrain", status_code=204)
def undrain_worker(name: WorkerName, lab: TheLab) -> None:
    """Give a worker runs again."""
    with lab.writing() as connection:
        fleet.drain(connection, name, draining=False)
    lab.doorbell.ring()


@router.post("/workers/{name}/slots/{kind}/{ordinal}/release", status_code=204)
def release_slot(
    name: WorkerName,
    kind: SlotKind,
    ordinal: Annotated[int, Path(ge=0, le=1000)],
    lab: TheLab,
) -> None:
    """End a slot's quarantine."""
    with lab.writing() as connection:
        fleet.release(connection, name, kind, ordinal, now=database_now(connection))
    lab.doorbell.ring()


@router.post("/tokens", status_code=201)
def issue_token(body: NewToken, lab: TheLab) -> IssuedToken:
    """Issue a token. The answer holds its secret, which is shown this once."""
    with lab.writing() as connection:
        now = database_now(connection)
        secret = users.issue_token(connection, body.user, label=body.label, now=now)
    return IssuedToken(secret=secret, user=body.user, label=body.label)


@router.get("/tokens", response_model=Items[Token])
def list_tokens(lab: TheLab) -> object:
    """List tokens, newest first, without their secrets."""
    with lab.reading() as connection:
        return items(users.list_tokens(connection))


@router.delete("/tokens/{token_id}", status_code=204)
def revoke_token(token_id: RunId, lab: TheLab) -> None:
    """End a token and every dashboard login that stands on it."""
    with lab.writing() as connection:
        users.revoke(connection, token_id, database_now(connection))
