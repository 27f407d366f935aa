"""The dashboard: pages rendered here, kept live by polling and by a run's stream.

Every figure comes from the store. Changes are POSTs with the login's CSRF header, which
:class:`api.auth.Authentication` demands of every login.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Form, Query, Request
from sqlalchemy import Connection
from starlette.responses import HTMLResponse, Response

from api import actions, presentation
from api.auth import Reader, Submitter, current_user
from api.checkups import examine
from api.edge import redirect
from api.lab import Lab, TheLab
from api.live import Cursor
from api.problems import ForgeryRefused
from api.rendering import part as rendered_part
from api.rendering import render
from api.routes import RunId
from api.routes.runs import PlainText
from api.sessions import COOKIE
from domain.checkup import worst
from domain.errors import NotFound, Unauthenticated
from domain.ids import ID_PATTERN
from domain.run_state import RunState
from store import artifacts, evaluations, fleet, history, logs, metrics, positions, runs, waits
from store.engine import database_now
from store.rows import User, WorkerRow
from store.sessions import token_id

router = APIRouter(include_in_schema=False)

PAGE = 40
LINES = 400
STATE_FILTERS: Mapping[str, tuple[RunState, ...]] = {
    "active": (RunState.QUEUED, RunState.RUNNING, RunState.CANCELLING),
    **{state.value: (state,) for state in RunState},
}


class _Visitor:
    """Who looks at a page, and the proof its changes carry."""

    def __init__(self, user: User, csrf: str) -> None:
        self.user, self.csrf = user, csrf

    def owns(self, owner: str) -> bool:
        """Tell whether the visitor may act on a run of ``owner``."""
        return self.user.role == "admin" or (self.user.role == "member" and self.user.name == owner)


async def _visitor(
    request: Request, lab: TheLab, user: Annotated[User, Depends(current_user)]
) -> _Visitor:
    cookie = request.cookies.get(COOKIE, "")
    return _Visitor(user, lab.sessions.csrf(cookie) if cookie else "")


Visitor = Annotated[_Visitor, Depends(_visitor)]


@router.get("/")
def runs_page(
    lab: TheLab,
    visitor: Visitor,
    state: Annotated[str, Query(max_length=20)] = "",
    experiment: Annotated[str, Query(pattern=PlainText)] = "",
    q: Annotated[str, Query(pattern=PlainText)] = "",
    cursor: Annotated[str | None, Query(pattern=ID_PATTERN)] = None,
    seen: str = "",
) -> Response:
    """Show the runs table; 204 if a page with digest ``seen`` would look the same."""
    filters = {"state": state if state in STATE_FILTERS else "", "experiment": experiment, "q": q}
    with lab.reading() as connection:
        page = runs.find(
            connection,
            states=STATE_FILTERS.get(state, ()),
            experiment=experiment or None,
            text=q or None,
            cursor=cursor,
            limit=PAGE,
        )
        view, workers = positions.queue(connection), fleet.all_workers(connection)
        now = database_now(connection)
        held = waits.waits(connection, page.items, now)
    workers = tuple(w for w in workers if not _is_gone(w, now))
    digest = _digest(
        [(run.id, run.version, held.get(run.id)) for run in page.items],
        view,
        [(w.name, w.slots, presentation.is_silent(w, now)) for w in workers],
    )
    if seen == digest:
        return Response(status_code=204)
    return render(
        "runs.html",
        visitor=visitor,
        page=page,
        waits=held,
        queue=view,
        workers=workers,
        now=now,
        filters=filters,
        cursor=cursor,
        states=list(STATE_FILTERS),
        digest=digest,
    )


def _is_gone(worker: WorkerRow, now: datetime) -> bool:
    """Tell whether a worker is a thing of the past that nothing runs on."""
    busy = any(slot.run_id or slot.unconfirmed for slot in worker.slots)
    return not busy and now - worker.seen_at > timedelta(days=1)


def _digest(*values: object) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:16]


Part = Literal["summary", "results", "pictures", "files", "history"]


@router.get("/runs/{run_id}")
def run_page(run_id: str, lab: TheLab, visitor: Visitor) -> Response:
    """Show everything of one run."""
    try:
        with lab.reading() as connection:
            context = _run_context(connection, run_id)
            lines = logs.tail(connection, run_id, limit=LINES)
    except NotFound as error:
        return render("missing.html", status=404, visitor=visitor, detail=str(error))
    cursor = Cursor(
        event=context["events"][-1].id if context["events"] else 0,
        line=lines[-1].id if lines else 0,
        version=context["run"].version,
        points=sum(one.count for one in context["series"]),
    )
    return render("run.html", visitor=visitor, lines=lines, cursor=str(cursor), **context)


@router.get("/runs/{run_id}/parts/{part}")
def run_part(run_id: RunId, part: Part, lab: TheLab, visitor: Visitor) -> Response:
    """Show one part of a run's page anew."""
    with lab.reading() as connection:
        context = _run_context(connection, run_id)
    return HTMLResponse(rendered_part(f"run/{part}.html", {"visitor": visitor, **context}))


def _run_context(connection: Connection, run_id: str) -> dict[str, Any]:
    run = actions.find(connection, run_id)
    now = database_now(connection)
    waiting = run.state is RunState.QUEUED
    return {
        "run": run,
        "now": now,
        "wait": waits.wait_of(connection, run, now),
        "position": positions.position(connection, run_id, now) if waiting else None,
        "series": metrics.summary(connection, run_id),
        "evaluations": evaluations.listing(connection, run_id),
        "artifacts": artifacts.listing(connection, run_id),
        "events": history.events(connection, run_id),
    }


@router.post("/runs/{run_id}/cancel")
def cancel_from_page(run_id: RunId, lab: TheLab, user: Submitter) -> Response:
    """Cancel a run and let the page show it."""
    actions.cancel(lab, user, run_id)
    return Response(status_code=204, headers={"HX-Trigger": "lab:state"})


@router.post("/runs/{run_id}/pause")
def pause_from_page(run_id: RunId, lab: TheLab, user: Submitter) -> Response:
    """Pause a run and let the page show it."""
    actions.hold(lab, user, run_id, held=True)
    return Response(status_code=204, headers={"HX-Trigger": "lab:state"})


@router.post("/runs/{run_id}/resume")
def resume_from_page(run_id: RunId, lab: TheLab, user: Submitter) -> Response:
    """Let a paused run go on and let the page show it."""
    actions.hold(lab, user, run_id, held=False)
    return Response(status_code=204, headers={"HX-Trigger": "lab:state"})


@router.post("/runs/{run_id}/retry")
def retry_from_page(run_id: RunId, lab: TheLab, user: Submitter) -> Response:
    """Retry a run and go to the new one."""
    run = actions.retry(lab, user, run_id)
    return Response(status_code=204, headers={"HX-Redirect": f"/runs/{run.id}"})


@router.get("/login")
async def login_page(
    next_page: Annotated[str, Query(alias="next", max_length=500)] = "/",
) -> Response:
    """Ask for a token."""
    return render("login.html", next_page=next_page, wrong=None)


@router.post("/login")
def log_in(
    request: Request,
    lab: TheLab,
    token: Annotated[str, Form(max_length=200)] = "",
    next_page: Annotated[str, Form(alias="next", max_length=500)] = "/",
) -> Response:
    """Start a login: the cookie names the token and cannot be read by scripts."""
    _require_own_form(request)
    try:
        with lab.reading() as connection:
            cookie = lab.sessions.issue(
                token_id(connection, token.strip()), database_now(connection)
            )
    except Unauthenticated as error:
        return render("login.html", status=401, next_page=next_page, wrong=str(error))
    answer = redirect(_local(next_page))
    _set_cookie(answer, request, lab, cookie)
    return answer


def _require_own_form(request: Request) -> None:
    """Refuse a form of another site: it would log a browser in as somebody else."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin", "")
    own = f"{request.url.scheme}://{request.url.netloc}"
    if site not in {"same-origin", "none"} or origin not in {"", own}:
        raise ForgeryRefused("Log in from the lab's own page.")


def _local(path: str) -> str:
    """Return ``path`` if it stays on this host, else the front page."""
    safe = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if safe and "\\" not in path and path.isascii() else "/"


def _set_cookie(answer: Response, request: Request, lab: Lab, cookie: str) -> None:
    answer.set_cookie(
        COOKIE,
        cookie,
        max_age=int(lab.sessions.lifetime.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


@router.post("/logout")
async def log_out(user: Reader) -> Response:  # noqa: ARG001 - only a login can end
    """End the login in this browser."""
    answer = Response(status_code=204, headers={"HX-Redirect": "/login"})
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


@router.get("/health")
def health_page(lab: TheLab, visitor: Visitor) -> Response:
    """Show what the lab's checks find, and what to do about it."""
    found = examine(lab)
    return render("health.html", visitor=visitor, findings=found, level=worst(found))


@router.get("/docs")
async def docs_page(request: Request, visitor: Visitor) -> Response:
    """Show the API's reference, made from its OpenAPI document."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in request.app.openapi()["paths"].items():
        for method, operation in methods.items():
            groups.setdefault(operation["tags"][0], []).append(_operation(path, method, operation))
    return render("docs.html", visitor=visitor, groups=list(groups.items()))


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> dict[str, Any]:
    content = operation.get("requestBody", {}).get("content", {})
    summary, _, rest = operation["description"].partition("\n\n")
    return {
        "id": operation["operationId"],
        "method": method.upper(),
        "path": path,
        "summary": summary,
        "description": rest,
        "parameters": [
            {**parameter, "allowed": _allowed(parameter["schema"])}
            for parameter in operation.get("parameters", [])
        ],
        "examples": content.get("application/json", {}).get("examples", {}),
        "answers": sorted(operation["responses"]),
    }


def _allowed(schema: Mapping[str, Any]) -> str:
    """Write what a parameter's schema allows in a few words."""
    if "anyOf" in schema:
        several = (_allowed(one) for one in schema["anyOf"] if one.get("type") != "null")
        return " or ".join(several)
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if schema.get("type") == "array":
        return f"list of {_allowed(schema['items'])}"
    limits = {"minimum": ">=", "maximum": "<=", "pattern": "like", "default": "default"}
    said = [f"{word} {schema[name]}" for name, word in limits.items() if name in schema]
    return ", ".join([schema.get("type", "any"), *said])
