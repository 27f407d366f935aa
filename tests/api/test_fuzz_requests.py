"""Wrong paths, queries, headers and bodies of every route: refused, never a 500."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from api import models
from domain.base import SpecModel
from tests.api.lab import DIGITS, LiveLab, live_lab
from tests.api.test_fuzz import JSON, faults, in_process, trained
from tests.fuzzing import LONG, WRONG, written

__all__ = ["trained"]

TEXTS = (
    "", "x", "0", "-1", "1.5", "true", "nan", "NaN", "inf", "1e999", "9" * 30, "9" * 5000,
    "%00", "a%00b", "%ff", "%ed%a0%80", "%0d%0a", "..%2f..%2fetc%2fpasswd", "%27%20or%201=1", "{}",
    "[]", "null", "²", "٣", "x" * 3000,
)  # fmt: skip
MOMENTS = (
    "0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00", "0000-00-00", "2026-02-30",
    "2026-01-01", "1e20", "-1e20", "99999999999999999999", "2026-01-01T00:00:00%2B99:99", "nan",
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-01-01T00:00:00", "-62135596800",
)  # fmt: skip
HEADERS = (
    b"", b"x", b"\xff\xfe", b'"', b'W/"1"', b'"99999999999999999999"', b"*", b",", b"a b",
    b"\xc2\xb2", b"bytes=-", b"bytes=0-", b"bytes=5-1", b"bytes=-99999999999999999999999",
    b"bytes=99999999999999999-", b"bytes=\xb2-", b"1.2.3.4", b"....", b"9" * 30, b"-1.0.0.0",
    b"999999999999999999.999999999999999999.999999999999999999.999999999999999999",
    b"Basic eDp5", b"Bearer", b"Bearer \xff", b"Bearer " + b"x" * 5000, b"x" * 5000,
)  # fmt: skip
RAW = {
    "nothing": b"",
    "half an object": b'{"a": ',
    "no UTF-8": b'{"a": "\xff"}',
    "UTF-16": json.dumps({"a": 1}).encode("utf-16"),
    "a NUL": b"\x00",
    "lists without end": b"[" * 200_000,
    "lists that end": b"[" * 100_000 + b"]" * 100_000,
    "objects without end": b'{"a":' * 100_000,
    "as deep as a reader goes": b'{"a":' * 900 + b"1" + b"}" * 900,
    "a number without end": b'{"seed": ' + b"9" * 5000 + b"}",
    "an exponent without end": b'{"seed": 1e999999999999}',
    "NaN": b'{"seed": NaN}',
    "one name twice": b'{"data": {"dataset": "digits", "dataset": "svhn"}, "preset": "part"}',
    "null": b"null",
    "a list": b"[]",
    "a text": b'"x"',
    "a number": b"3",
    "a lone surrogate": b'"\\ud800"',
    "a lone surrogate as a name": b'{"\\ud800": 1}',
    "a NUL as a name": b'{"\\u0000": 1}',
    "two texts": b"{} {}",
    "comments": b"{} // x",
    "a form": b"a=1&b=2",
    "too much": b'{"x": "' + b"a" * 1_100_000 + b'"}',
}
RUN = "0123456789abcdefgh"


@pytest.fixture(scope="module")
def operations(lab) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Method, path and description of every documented operation."""
    paths = lab.client().get("/api/v1/openapi.json").json()["paths"]
    return [(method, path, op) for path, each in paths.items() for method, op in each.items()]


def filled(path: str, run: str, **over: str) -> str:
    """Return an address of a path template."""
    usual = {"run_id": run, "other_id": run, "name": "ada", "kind": "cpu", "ordinal": "0"}
    values = {**usual, **over}
    return re.sub(r"\{(\w+)\}", lambda part: values.get(part[1], RUN), path)


async def wrong_answers(
    client: httpx.AsyncClient, requests: Iterator[tuple[str, str, dict[str, Any]]]
) -> tuple[int, list[str]]:
    count, wrong = 0, []
    for method, address, options in requests:
        answer = await client.request(method, address, **options)
        count += 1
        shown = f"{method} {address[:120]} {str(options)[:120]}"
        wrong += [f"{shown}: {fault}; {answer.text[:300]}" for fault in faults(answer)]
    return count, wrong


def hold(lab: LiveLab, requests: Iterator[tuple[str, str, dict[str, Any]]], at_least: int) -> None:
    """Make requests; fail with every answer that is not as it should be."""
    count, wrong = in_process(lab, lambda client: wrong_answers(client, requests))
    assert not wrong, "\n".join(wrong)
    assert count >= at_least


def parameters(operation: Mapping[str, Any], place: str) -> list[Mapping[str, Any]]:
    return [p for p in operation.get("parameters", []) if p["in"] == place]


def test_wrong_query_parameters(lab, trained, operations):
    def requests() -> Iterator[tuple[str, str, dict[str, Any]]]:
        for method, path, operation in operations:
            if method != "get":
                continue
            for parameter in parameters(operation, "query"):
                is_moment = "date-time" in json.dumps(parameter["schema"])
                for text in MOMENTS if is_moment else TEXTS:
                    if parameter["name"] == "wait" and text in {"1.5", "1"}:
                        continue  # a wait of that time
                    query = f"{parameter['name']}={text if '%' in text else quote(text)}"
                    yield method, f"{filled(path, trained)}?{query}", {}

    hold(lab, requests(), 300)


def test_wrong_paths(lab, trained, operations):
    def requests() -> Iterator[tuple[str, str, dict[str, Any]]]:
        for method, path, operation in operations:
            for parameter in parameters(operation, "path"):
                for text in TEXTS:
                    value = text if "%" in text else quote(text, safe="")
                    address = filled(path, trained, **{parameter["name"]: value})
                    body = (
                        {"content": b'{"share": 1}', "headers": JSON} if method in {"put"} else {}
                    )
                    yield method, address, body

    hold(lab, requests(), 500)


def test_wrong_headers(lab, trained, operations):
    def requests() -> Iterator[tuple[str, str, dict[str, Any]]]:
        for method, path, operation in operations:
            names = [p["name"] for p in parameters(operation, "header")]
            if path.endswith("/content"):
                names += ["range", "if-range", "if-none-match"]
            for name in names:
                for value in HEADERS:
                    headers = {**JSON, name: value}
                    content = json.dumps(DIGITS).encode() if path.endswith("/runs") else None
                    yield method, filled(path, trained), {"headers": headers, "content": content}
        for name in ("authorization", "cookie", "host", "accept", "content-type", "x-csrf-token"):
            for value in HEADERS:
                extra = {name: value}
                if name == "cookie":
                    extra = {"cookie": b"partlab_session=" + value, "authorization": b"none"}
                yield "get", "/api/v1/me", {"headers": extra}
                yield "post", "/api/v1/specs/expand", {"headers": extra, "content": b"{}"}

    hold(lab, requests(), 300)


def test_wrong_bodies(lab, trained, operations):
    def requests() -> Iterator[tuple[str, str, dict[str, Any]]]:
        for method, path, _ in operations:
            if method == "get":
                continue
            query = "?model=small-cnn" if path.endswith("/checkpoints") else ""
            for title, raw in RAW.items():
                if title == "too much" and query:
                    continue
                for kind in ("application/json", "application/x-www-form-urlencoded", "text/plain"):
                    headers = {"Content-Type": kind}
                    address = filled(path, trained) + query
                    yield method, address, {"headers": headers, "content": raw}

    hold(lab, requests(), 500)


def test_wrong_values_of_other_bodies(lab, operations):
    """Users, tokens, limits, groups: each field with each wrong value."""
    bodies = {
        "NewUser": {"name": "zoe", "role": "member"},
        "NewToken": {"user": "ada", "label": "x"},
        "Limits": {"share": 1, "group_name": None, "most_running": 1, "most_queued": 1},
        "GroupShare": {"share": 1},
    }
    found = set()

    def requests() -> Iterator[tuple[str, str, dict[str, Any]]]:
        for method, path, operation in operations:
            schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            name = schema.get("schema", {}).get("$ref", "").rpartition("/")[2]
            if not name:
                continue
            found.add(name)
            model = getattr(models, name)
            assert issubclass(model, SpecModel)
            for field in model.model_fields:
                for value in WRONG.values():
                    body = written({**bodies[name], field: value})
                    yield method, filled(path, RUN), {"content": body, "headers": JSON}
            yield method, filled(path, RUN), {"json": {**bodies[name], "colour": 1}}

    hold(lab, requests(), 100)
    assert found == set(bodies)


PAGES = {
    "/": ("state", "experiment", "q", "cursor", "seen"),
    "/login": ("next",),
    "/runs/{run}": ("utm_source",),
    "/runs/{run}/parts/summary": ("utm_source",),
}


def test_wrong_addresses_of_pages(lab, trained):
    def requests() -> Iterator[tuple[str, str, dict[str, Any]]]:
        for text in TEXTS:
            value = text if "%" in text else quote(text, safe="")
            for page, names in PAGES.items():
                for name in names if "{run}" not in page or text == "x" else ():
                    yield "get", f"{page.format(run=trained)}?{name}={value}", {}
                if "{run}" in page:
                    yield "get", page.format(run=value or "x"), {}

    async def pages(client: httpx.AsyncClient) -> list[str]:
        statuses = [
            (address, (await client.request(method, address, **options)).status_code)
            for method, address, options in requests()
        ]
        return [f"{address[:100]}: {status}" for address, status in statuses if status >= 500]

    assert in_process(lab, pages) == []


def test_wrong_forms(lab):
    bodies = (
        *(b"", b"token=%00", b"token=" + b"x" * 300, b"\xff\xfe", b"next=%ff", b"a=1&" * 2000),
        *(b"token=%ed%a0%80&next=//evil", b"--x--", b"--x\r\n\r\n"),
    )
    kinds = ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/x")
    forms = [(kind, raw) for kind in kinds for raw in bodies]

    async def log_in(client: httpx.AsyncClient) -> list[int]:
        return [
            (await client.post("/login", content=raw, headers={"Content-Type": kind})).status_code
            for kind, raw in forms
        ]

    assert [status for status in in_process(lab, log_in) if status >= 500 or status < 400] == []


# ---- what is refused, and in which words --------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "pointer", "says"),
    [
        ("/api/v1/runs?limt=3", "?limt", "unknown parameter 'limt'; did you mean limit?"),
        ("/api/v1/runs?stat=failed", "?stat", "did you mean state"),
        ("/api/v1/queue?x=1", "?x", "takes no parameters"),
        ("/api/v1/me?x", "?x", "takes no parameters"),
        ("/healthz?x=", "?x", "takes no parameters"),
        ("/metrics?x=1", "?x", "takes no parameters"),
        ("/api/v1/runs?limit=1&limit=2", "?limit", "more than once"),
        ("/api/v1/runs?limit=9999", "?limit", "must be at most"),
        ("/api/v1/runs?limit=-1", "?limit", "must be at least 1"),
        ("/api/v1/runs?limit=x", "?limit", "a whole number"),
        ("/api/v1/runs?state=faild", "?state", "did you mean failed"),
        ("/api/v1/ledger?since=0001-01-01T00:00:00%2B14:00", "?since", "years 1 to 9999"),
        ("/api/v1/ledger?since=yesterday", "?since", "2026-01-31T12:00:00Z"),
        ("/api/v1/ledger?by=users", "?by", "did you mean user"),
        ("/api/v1/ledger?" + "x" * 2000, "?" + "x" * 60 + "…", "unknown parameter"),
    ],
    ids=range(15),
)
def test_a_wrong_query_is_told_in_plain_words(sqlite_lab, address, pointer, says):
    answer = sqlite_lab.client().get(address)
    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    assert error["pointer"] == pointer
    assert says in error["detail"]


def test_several_states_are_no_repetition(sqlite_lab):
    assert sqlite_lab.client().get("/api/v1/runs?state=failed&state=queued").status_code == 200


BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize("kind", [None, "application/x-www-form-urlencoded", "application/json"])
@pytest.mark.parametrize("mark", [b"", BOM])
def test_json_is_read_whatever_curl_calls_it(sqlite_lab, kind, mark):
    headers = {} if kind is None else {"Content-Type": kind}
    body = mark + json.dumps(DIGITS).encode()
    answer = sqlite_lab.client().post("/api/v1/runs", content=body, headers=headers)
    assert answer.status_code == 202, answer.text


def test_another_kind_of_body_is_415(sqlite_lab):
    for kind in ("text/plain", "multipart/form-data; boundary=x", "image/png"):
        answer = sqlite_lab.client().post(
            "/api/v1/runs", content=json.dumps(DIGITS), headers={"Content-Type": kind}
        )
        assert answer.status_code == 415
        assert answer.json()["code"] == "unsupported-media-type"


def test_a_form_of_another_site_changes_nothing(sqlite_lab):
    """JSON that calls itself a form opens no door: a cookie needs its proof as ever."""
    page = sqlite_lab.client(None)
    page.post("/login", data={"token": sqlite_lab.tokens["ada"]})
    assert page.cookies
    for kind in (None, "application/x-www-form-urlencoded", "application/json"):
        headers = {} if kind is None else {"Content-Type": kind}
        answer = page.post("/api/v1/runs", content=json.dumps(DIGITS), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "csrf")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (RAW["one name twice"], "'dataset' is given twice"),
        (RAW["NaN"], "NaN is no number"),
        (RAW["no UTF-8"], "not UTF-8"),
        (RAW["lists without end"], "nested too deep"),
        (RAW["a number without end"], "too many digits"),
        (b'{"seed": 1e999}', "1e999 is no finite number"),
        (b'{"' + LONG.encode() + b'": 1, "' + LONG.encode() + b'": 2}', "given twice"),
    ],
    ids=range(7),
)
def test_a_body_that_is_no_good_json_is_told_why(sqlite_lab, raw, says):
    answer = sqlite_lab.client().post("/api/v1/runs", content=raw, headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-json")
    assert says in answer.json()["detail"]
    assert len(answer.content) < 600


def test_a_broker_whose_address_is_wrong_is_told_by_doctor(tmp_path, monkeypatch):
    with live_lab("sqlite", tmp_path) as lab:
        monkeypatch.setattr(lab.app.state.lab.doorbell, "_url", "redis://host:notaport")
        answer = lab.client().get("/api/v1/doctor")
    assert answer.status_code == 200
    assert {f["level"] for f in answer.json()["findings"] if f["check"] == "broker"} == {"warn"}
