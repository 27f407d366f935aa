"""Who may do what: every route, every method, every role, against a table written by hand."""

import re

import pytest
from fastapi.routing import APIRoute

from tests.api.test_auth_api import log_in

ANYBODY, VIEWER, MEMBER, ADMIN = "anybody", "viewer", "member", "admin"
LADDER = (ANYBODY, VIEWER, MEMBER, ADMIN)
USERS = {VIEWER: "eve", MEMBER: "ada", ADMIN: "root"}
ALLOWED = {
    "GET /healthz": ANYBODY,
    "GET /readyz": ANYBODY,
    "GET /login": ANYBODY,
    "POST /login": ANYBODY,  # with a token: tests/api/test_auth_api.py
    "GET /": VIEWER,
    "GET /docs": VIEWER,
    "GET /health": VIEWER,
    "GET /metrics": VIEWER,
    "GET /runs/{run_id}": VIEWER,
    "GET /runs/{run_id}/parts/{part}": VIEWER,
    "POST /logout": VIEWER,
    "POST /runs/{run_id}/cancel": MEMBER,
    "POST /runs/{run_id}/pause": MEMBER,
    "POST /runs/{run_id}/resume": MEMBER,
    "POST /runs/{run_id}/retry": MEMBER,
    "GET /api/v1/catalog": VIEWER,
    "GET /api/v1/checkpoints": VIEWER,
    "POST /api/v1/checkpoints": MEMBER,
    "GET /api/v1/checkpoints/{checkpoint_id}": VIEWER,
    "GET /api/v1/doctor": VIEWER,
    "GET /api/v1/groups": ADMIN,
    "PUT /api/v1/groups/{name}": ADMIN,
    "GET /api/v1/ledger": VIEWER,
    "GET /api/v1/me": VIEWER,
    "GET /api/v1/queue": VIEWER,
    "GET /api/v1/runs": VIEWER,
    "POST /api/v1/runs": MEMBER,
    "GET /api/v1/runs/{run_id}": VIEWER,
    "GET /api/v1/runs/{run_id}/artifacts": VIEWER,
    "GET /api/v1/runs/{run_id}/artifacts/{artifact_id}/content": VIEWER,
    "GET /api/v1/runs/{run_id}/audit": VIEWER,
    "POST /api/v1/runs/{run_id}/cancel": MEMBER,
    "GET /api/v1/runs/{run_id}/comparison/{other_id}": VIEWER,
    "GET /api/v1/runs/{run_id}/evaluations": VIEWER,
    "GET /api/v1/runs/{run_id}/events": VIEWER,
    "GET /api/v1/runs/{run_id}/logs": VIEWER,
    "GET /api/v1/runs/{run_id}/metrics": VIEWER,
    "GET /api/v1/runs/{run_id}/metrics/history": VIEWER,
    "POST /api/v1/runs/{run_id}/pause": MEMBER,
    "GET /api/v1/runs/{run_id}/position": VIEWER,
    "POST /api/v1/runs/{run_id}/resume": MEMBER,
    "POST /api/v1/runs/{run_id}/retry": MEMBER,
    "GET /api/v1/runs/{run_id}/stream": VIEWER,
    "POST /api/v1/specs/expand": VIEWER,
    "GET /api/v1/tokens": ADMIN,
    "POST /api/v1/tokens": ADMIN,
    "DELETE /api/v1/tokens/{token_id}": ADMIN,
    "GET /api/v1/users": ADMIN,
    "POST /api/v1/users": ADMIN,
    "PATCH /api/v1/users/{name}": ADMIN,
    "GET /api/v1/workers": VIEWER,
    "POST /api/v1/workers/{name}/drain": ADMIN,
    "POST /api/v1/workers/{name}/slots/{kind}/{ordinal}/release": ADMIN,
    "POST /api/v1/workers/{name}/undrain": ADMIN,
}
"""The least role that each asks for. What it is asked about may still be somebody else's."""
PARTS = {"part": "status", "kind": "cpu", "ordinal": "0", "name": "nobody"}


def routes(app):
    """Every route that answers requests, however it was included."""
    found, waiting = [], list(app.routes)
    while waiting:
        route = waiting.pop()
        if isinstance(route, APIRoute):
            found += [f"{method} {route.path}" for method in route.methods]
        waiting += getattr(getattr(route, "original_router", None), "routes", [])
    return set(found)


def test_every_route_is_in_the_table(sqlite_lab):
    document = sqlite_lab.client().get("/api/v1/openapi.json").json()
    told = {f"{m.upper()} {path}" for path, methods in document["paths"].items() for m in methods}
    assert told - set(ALLOWED) == set()
    assert routes(sqlite_lab.app) == set(ALLOWED)


@pytest.mark.parametrize("role", LADDER)
@pytest.mark.parametrize("route", [route for route in ALLOWED if route != "POST /login"])
def test_a_role_may_do_what_the_table_says_and_nothing_else(sqlite_lab, route, role):
    method, path = route.split(" ")
    filled = re.sub(r"\{(\w+)\}", lambda m: PARTS.get(m[1], "0" * 18), path)
    client = visitor(sqlite_lab, role, is_page=not path.startswith("/api/"))
    answer = client.request(method, filled, json={} if method in ("POST", "PUT", "PATCH") else None)
    assert answer.status_code < 500, answer.text
    may = LADDER.index(role) >= LADDER.index(ALLOWED[route])
    refused = answer.status_code in (401, 403) or answer.headers.get("location", "").startswith(
        "/login"
    )
    assert refused is not may, (answer.status_code, answer.text[:200])


def visitor(lab, role, *, is_page):
    """A browser with a login for pages, else a client with a token."""
    user = USERS.get(role)
    if user is None or not is_page:
        return lab.client(user)
    browser = log_in(lab, user)
    proof = re.search(r'"X-CSRF-Token": "([\w-]{43})"', browser.get("/").text)
    browser.headers["X-CSRF-Token"] = proof[1] if proof else ""
    return browser
