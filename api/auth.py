"""Who is asking. Default deny: every path but a short public list needs a token or a login.

Roles: a viewer reads, a member submits and acts on own runs, an administrator does everything.
"""

import hashlib
import time
from contextlib import suppress
from typing import Annotated
from urllib.parse import quote

from fastapi import Depends, Request
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from api.edge import redirect
from api.lab import Lab
from api.problems import ForgeryRefused, from_error, unavailable
from api.sessions import COOKIE, CSRF_HEADER
from domain.errors import LabError, NotPermitted, Unauthenticated
from store.engine import database_now
from store.rows import RunRow, User
from store.sessions import holder
from store.users import authenticate, note_use

PUBLIC = frozenset({"/healthz", "/readyz", "/login"})
PUBLIC_FOLDER = "/static/"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
NOTE_USE_SECONDS = 60.0


class Authentication:
    """Stands before the router, so that a new route is closed until somebody opens it."""

    def __init__(self, app: ASGIApp, *, lab: Lab) -> None:
        self._app = app
        self._lab = lab
        self._noted: dict[str, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request of a known user; refuse any other."""
        if scope["type"] != "http" or is_public(scope["path"]):
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        try:
            scope["user"] = await run_in_threadpool(self._identify, connection)
        except LabError as error:
            wants_page = "text/html" in connection.headers.get("accept", "")
            login = isinstance(error, Unauthenticated) and wants_page and scope["method"] == "GET"
            refusal = redirect(f"/login?next={_path(scope)}") if login else from_error(error)
            await refusal(scope, receive, send)
        except (OperationalError, InterfaceError, PoolExhausted):
            await unavailable()(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _identify(self, connection: HTTPConnection) -> User:
        scheme, _, secret = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._bearer(secret.strip())
        cookie = connection.cookies.get(COOKIE)
        if cookie is None:
            raise Unauthenticated("Send `Authorization: Bearer <token>`.")
        return self._login(connection, cookie)

    def _bearer(self, secret: str) -> User:
        with self._lab.reading() as database:
            user = authenticate(database, secret)
        self._note_use(secret)
        return user

    def _login(self, connection: HTTPConnection, cookie: str) -> User:
        with self._lab.reading() as database:
            token = self._lab.sessions.read(cookie, database_now(database))
            user = holder(database, token)
        proof = connection.headers.get(CSRF_HEADER, "")
        changes = connection.scope["method"] not in SAFE_METHODS
        if changes and not self._lab.sessions.proves(proof, cookie):
            raise ForgeryRefused(f"A login cookie alone changes nothing: send {CSRF_HEADER}.")
        return user

    def _note_use(self, secret: str) -> None:
        """Remember the use once a minute; failing to is no reason to refuse the request."""
        name = hashlib.sha256(secret.encode()).hexdigest()
        now = time.monotonic()
        if now - self._noted.get(name, -NOTE_USE_SECONDS) < NOTE_USE_SECONDS:
            return
        self._noted[name] = now
        with suppress(OperationalError), self._lab.writing() as database:
            note_use(database, secret, database_now(database))


def is_public(path: str) -> bool:
    """Tell whether a path needs no authentication."""
    return path in PUBLIC or path.startswith(PUBLIC_FOLDER)


def _path(scope: Scope) -> str:
    query = scope["query_string"].decode("latin-1")
    return quote(scope["path"] + (f"?{query}" if query else ""), safe="/")


async def current_user(request: Request) -> User:
    """Return who is asking."""
    user: User = request.scope["user"]
    return user


async def submitter(user: Annotated[User, Depends(current_user)]) -> User:
    """Return who is asking, a member or an administrator. Raises NotPermitted."""
    if user.role == "viewer":
        raise NotPermitted("A viewer reads; submitting needs the role `member`.")
    return user


async def administrator(user: Annotated[User, Depends(current_user)]) -> User:
    """Return who is asking, an administrator. Raises NotPermitted."""
    if user.role != "admin":
        raise NotPermitted("This needs the role `admin`.")
    return user


Reader = Annotated[User, Depends(current_user)]
Submitter = Annotated[User, Depends(submitter)]


def require_own(user: User, run: RunRow) -> None:
    """Raise NotPermitted unless the run is the user's own or the user an administrator."""
    if user.role != "admin" and run.owner != user.name:
        raise NotPermitted(f"Run {run.id} belongs to {run.owner}.")
