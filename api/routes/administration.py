"""Users and tokens, for administrators."""

from fastapi import APIRouter

from api.auth import Administrator
from api.lab import TheLab
from api.models import IssuedToken, Items, NewToken, NewUser, Token, UserAnswer, items
from api.routes import PREFIX, RunId
from store import users
from store.engine import database_now
from store.rows import User

router = APIRouter(prefix=PREFIX, tags=["administration"])


@router.post("/users", status_code=201, response_model=UserAnswer)
def create_user(body: NewUser, lab: TheLab, admin: Administrator) -> User:  # noqa: ARG001
    """Add a user."""
    with lab.writing() as connection:
        return users.create_user(connection, body.name, body.role, database_now(connection))


@router.post("/tokens", status_code=201)
def issue_token(body: NewToken, lab: TheLab, admin: Administrator) -> IssuedToken:  # noqa: ARG001
    """Issue a token. The answer holds its secret, which is shown this once."""
    with lab.writing() as connection:
        now = database_now(connection)
        secret = users.issue_token(connection, body.user, label=body.label, now=now)
    return IssuedToken(secret=secret, user=body.user, label=body.label)


@router.get("/tokens", response_model=Items[Token])
def list_tokens(lab: TheLab, admin: Administrator) -> object:  # noqa: ARG001
    """List tokens, newest first, without their secrets."""
    with lab.reading() as connection:
        return items(users.list_tokens(connection))


@router.delete("/tokens/{token_id}", status_code=204)
def revoke_token(token_id: RunId, lab: TheLab, admin: Administrator) -> None:  # noqa: ARG001
    """End a token and every dashboard login that stands on it."""
    with lab.writing() as connection:
        users.revoke(connection, token_id, database_now(connection))
