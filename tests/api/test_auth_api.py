import re
import stat
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fastapi.routing import APIRoute

from api.auth import is_public
from api.sessions import COOKIE, Sessions
from domain.errors import Unauthenticated
from tests.api.lab import DIGITS, LiveLab, live_lab
from tests.api.test_submission import refused

PUBLIC = {"/healthz", "/readyz", "/login"}
VIEWER_MAY_CHANGE = {"/api/v1/specs/expand", "/login", "/logout"}
RUN = "0" * 18


def routes(app) -> list[tuple[str, str]]:
    """Every (method, path) the application answers, hidden pages included."""
    found: list[tuple[str, str]] = []

    def walk(several) -> None:
        for route in several:
            inner = getattr(route, "original_router", None)
            if isinstance(route, APIRoute):
                found.extend((method, route.path) for method in sorted(route.methods))
            elif inner is not None:
                walk(inner.routes)
            elif hasattr(route, "methods"):
                found.extend((method, route.path) for method in sorted(route.methods))

    walk(app.routes)
    return found


def filled(path: str) -> str:
    return re.sub(r"\{part\}", "summary", re.sub(r"\{\w+_id\}", RUN, path))


def test_every_route_but_the_public_ones_needs_a_token(sqlite_lab):
    stranger = sqlite_lab.client(None)
    walked = routes(sqlite_lab.app)
    assert len(walked) > 30
    assert ("GET", "/api/v1/openapi.json") in walked
    opened = set()
    for method, path in walked:
        answer = stranger.request(method, filled(path), json={})
        if answer.status_code != 401:
            opened.add(path)
        elif path not in PUBLIC:
            assert answer.headers["www-authenticate"].startswith("Bearer")
            if method != "HEAD":
                assert answer.json()["code"] == "unauthenticated"
    assert opened == PUBLIC


@pytest.mark.parametrize("path", ["/api/v1/nowhere", "/favicon.ico", "/api/v2/runs", "/staticx"])
def test_a_path_that_does_not_exist_is_closed_too(sqlite_lab, path):
    assert sqlite_lab.client(None).get(path).status_code == 401
    assert sqlite_lab.client().get(path).status_code == 404


def test_static_files_are_public_and_nothing_beside_them(sqlite_lab):
    stranger = sqlite_lab.client(None)
    assert stranger.get("/static/lab.css").status_code == 200
    with httpx.Client(base_url=sqlite_lab.url) as raw:
        for path in ("/static/../../pyproject.toml", "/static/%2e%2e/%2e%2e/pyproject.toml"):
            assert raw.get(httpx.URL(sqlite_lab.url + path)).status_code in {401, 404}
    assert is_public("/static/x")
    assert not is_public("/static")


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer nonsense", "Basic cm9vdDpyb290", "Bearer \xff", "x"]
)
def test_anything_but_a_valid_token_is_refused(sqlite_lab, header):
    stranger = sqlite_lab.client(None, headers={"Authorization": header.encode("latin-1")})
    refused(stranger.get("/api/v1/me"), 401, "unauthenticated")


def test_a_viewer_changes_nothing(sqlite_lab):
    eve = sqlite_lab.client("eve")
    for method, path in routes(sqlite_lab.app):
        if method in {"GET", "HEAD"} or path in VIEWER_MAY_CHANGE:
            continue
        answer = eve.request(method, filled(path), json={"name": "x", "user": "ada"})
        refused(answer, 403, "not-permitted")
    assert eve.get("/api/v1/runs").status_code == 200
    assert eve.get("/api/v1/me").json() == {"name": "eve", "role": "viewer"}


def test_a_member_acts_on_own_runs_only_and_an_administrator_on_all(lab):
    run = lab.submit("ada")
    bob, root = lab.client("bob"), lab.client("root")
    refused(bob.post(f"/api/v1/runs/{run.id}/cancel"), 403, "not-permitted")
    assert root.post(f"/api/v1/runs/{run.id}/cancel").json()["state"] == "cancelled"
    refused(bob.post(f"/api/v1/runs/{run.id}/retry"), 403, "not-permitted")
    assert lab.client().post(f"/api/v1/runs/{run.id}/retry").json()["retry_of"] == run.id


def test_tokens_are_issued_listed_and_revoked_by_administrators_alone(lab):
    root = lab.client("root")
    for path in ("/api/v1/tokens", "/api/v1/users"):
        refused(lab.client().post(path, json={"name": "x", "user": "ada"}), 403, "not-permitted")
    assert root.post("/api/v1/users", json={"name": "zoe", "role": "viewer"}).status_code == 201
    refused(root.post("/api/v1/users", json={"name": "zoe"}), 409, "conflict")
    bad = root.post("/api/v1/users", json={"name": "\x00", "role": "king"})
    pointers = {e["pointer"] for e in refused(bad, 422, "request-invalid")["errors"]}
    assert pointers == {"/name", "/role"}
    refused(root.post("/api/v1/tokens", json={"user": "nobody"}), 404, "not-found")
    issued = root.post("/api/v1/tokens", json={"user": "zoe", "label": "laptop"}).json()
    zoe = lab.client(None, headers={"Authorization": f"bearer {issued['secret']}"})
    assert zoe.get("/api/v1/me").json()["role"] == "viewer"
    listed = root.get("/api/v1/tokens")
    assert issued["secret"] not in listed.text
    (token,) = [t for t in listed.json()["items"] if t["user_name"] == "zoe"]
    assert token["last_used_at"] is not None
    assert root.delete(f"/api/v1/tokens/{token['id']}").status_code == 204
    refused(zoe.get("/api/v1/me"), 401, "unauthenticated")
    refused(root.delete(f"/api/v1/tokens/{RUN}"), 404, "not-found")


def test_foreign_host_names_are_refused(sqlite_lab):
    for host in ("evil.example", "evil.example:8700", "localhost.evil.example", ""):
        answer = sqlite_lab.client(headers={"Host": host}).get("/api/v1/me")
        refused(answer, 421, "host-unknown")
    for host in ("localhost", "LOCALHOST:1", "[::1]:8700", "127.0.0.1"):
        assert sqlite_lab.client(headers={"Host": host}).get("/api/v1/me").status_code == 200


def test_any_host_may_be_allowed(tmp_path):
    with live_lab("sqlite", tmp_path, allowed_hosts="lab.example, *") as lab:
        assert lab.settings.allowed_hosts == ("lab.example", "*")
        assert lab.client(headers={"Host": "other"}).get("/healthz").status_code == 200


# ---- dashboard logins ---------------------------------------------------------------------------


def log_in(lab: LiveLab, user: str = "ada") -> httpx.Client:
    """A browser's client: a login cookie, no bearer token."""
    client = lab.client(None)
    answer = client.post("/login", data={"token": f" {lab.tokens[user]} ", "next": "/runs/x"})
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"] == "/runs/x"
    return client


def csrf(client: httpx.Client) -> str:
    found = re.search(r'"X-CSRF-Token": "([\w-]{43})"', client.get("/").text)
    assert found is not None
    return found[1]


def test_a_login_cookie_is_out_of_reach_of_scripts_and_holds_no_token(lab):
    client = lab.client(None)
    answer = client.post("/login", data={"token": lab.tokens["ada"]})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert "Secure" not in cookie
    assert lab.tokens["ada"] not in cookie
    assert client.get("/api/v1/me").json()["name"] == "ada"


def test_a_cookie_alone_changes_nothing(lab):
    browser = log_in(lab)
    run = lab.submit("ada")
    for path in (f"/runs/{run.id}/cancel", f"/api/v1/runs/{run.id}/cancel", "/logout"):
        refused(browser.post(path), 403, "csrf")
        refused(browser.post(path, headers={"X-CSRF-Token": "0" * 64}), 403, "csrf")
    refused(browser.post("/api/v1/runs", json=DIGITS), 403, "csrf")
    foreign = csrf(log_in(lab, "bob"))
    refused(browser.post("/logout", headers={"X-CSRF-Token": foreign}), 403, "csrf")
    assert browser.get(f"/api/v1/runs/{run.id}").json()["state"] == "queued"


def test_a_page_with_its_proof_cancels_retries_and_logs_out(lab):
    browser = log_in(lab)
    proof = {"X-CSRF-Token": csrf(browser)}
    run = lab.submit("ada")
    answer = browser.post(f"/runs/{run.id}/cancel", headers=proof)
    assert (answer.status_code, answer.headers["hx-trigger"]) == (204, "lab:state")
    answer = browser.post(f"/runs/{run.id}/retry", headers=proof)
    assert re.fullmatch(r"/runs/\w{18}", answer.headers["hx-redirect"])
    assert browser.post("/logout", headers=proof).headers["hx-redirect"] == "/login"
    assert COOKIE not in browser.cookies
    assert browser.get("/").status_code == 401


def test_a_wrong_token_is_told_so(sqlite_lab):
    answer = sqlite_lab.client(None).post("/login", data={"token": "part_wrong"})
    assert answer.status_code == 401
    assert "unknown or was revoked" in answer.text
    assert "set-cookie" not in answer.headers


def test_a_form_of_another_site_logs_nobody_in(sqlite_lab):
    form = {"token": sqlite_lab.tokens["ada"]}
    for header in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = sqlite_lab.client(None, headers=header).post("/login", data=form)
        refused(answer, 403, "csrf")
    own = sqlite_lab.client(None, headers={"Origin": sqlite_lab.url})
    assert own.post("/login", data=form).status_code == 303


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nb", "/\u2028x"]
)
def test_a_login_stays_on_this_host(sqlite_lab, target):
    form = {"token": sqlite_lab.tokens["ada"], "next": target}
    assert sqlite_lab.client(None).post("/login", data=form).headers["location"] == "/"


def test_a_browser_is_sent_to_the_login_and_back(sqlite_lab):
    browser = sqlite_lab.client(None, headers={"Accept": "text/html,*/*"})
    answer = browser.get("/?q=a%26b")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=/%3Fq%3Da%2526b"
    page = browser.get(answer.headers["location"]).text
    assert 'name="next" value="/?q=a%26b"' in page


def test_a_login_ends_with_its_token(lab):
    root = lab.client("root")
    secret = root.post("/api/v1/tokens", json={"user": "bob", "label": "gone"}).json()["secret"]
    browser = lab.client(None)
    browser.post("/login", data={"token": secret})
    assert browser.get("/").status_code == 200
    (token,) = [t for t in root.get("/api/v1/tokens").json()["items"] if t["label"] == "gone"]
    root.delete(f"/api/v1/tokens/{token['id']}")
    assert browser.get("/").status_code == 401


def test_a_tampered_or_old_cookie_is_no_login(tmp_path):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    sessions = Sessions(None, tmp_path / "state" / "session.key", timedelta(hours=1))
    cookie = sessions.issue("0123", now)
    assert sessions.read(cookie, now) == "0123"
    later = now + timedelta(hours=1, seconds=1)
    for bad, at in [
        (cookie, later),
        ("1" + cookie, now),
        (cookie[:-1], now),
        ("", now),
        ("a.b.c", now),
    ]:
        with pytest.raises(Unauthenticated):
            sessions.read(bad, at)
    key = tmp_path / "state" / "session.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    again = Sessions(None, key, timedelta(hours=1))
    assert again.read(cookie, now) == "0123"
    assert again.proves(sessions.csrf(cookie), cookie)
    with pytest.raises(Unauthenticated):
        Sessions("another", key, timedelta(hours=1)).read(cookie, now)
