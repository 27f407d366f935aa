"""Pauses, dependencies, shares, quotas, draining and the ledger over HTTP."""

import pytest

from domain.run_state import RunState
from tests.api.lab import DIGITS, live_lab
from tests.api.test_submission import refused


@pytest.fixture(params=["sqlite", "postgresql"])
def lab(request, tmp_path):
    """A lab of its own: quotas and ledgers are of everything in it."""
    with live_lab(request.param, tmp_path) as made:
        yield made


def test_a_run_is_paused_and_goes_on(lab):
    run = lab.submit()
    ada = lab.client()
    paused = ada.post(f"/api/v1/runs/{run.id}/pause")
    assert (paused.status_code, paused.json()["held"]) == (200, True)
    told = ada.get(f"/api/v1/runs/{run.id}/position").json()
    assert (told["why"], "part resume" in told["waits_for"]) == ("paused", True)
    assert ada.post(f"/api/v1/runs/{run.id}/resume").json()["held"] is False
    assert refused(lab.client("bob").post(f"/api/v1/runs/{run.id}/pause"), 403, "not-permitted")
    lab.finish(lab.start())
    (over,) = [r for r in ada.get("/api/v1/runs").json()["items"] if r["state"] == "succeeded"]
    assert refused(ada.post(f"/api/v1/runs/{over['id']}/pause"), 409, "invalid-transition")


def test_an_evaluation_may_be_queued_behind_its_training(lab):
    training = lab.submit()
    ada = lab.client()
    body = {"kind": "evaluate", "source": {"run": training.id}}
    alone = refused(ada.post("/api/v1/runs", json=body), 422, "spec-invalid")
    assert "Name it in `after`" in alone["detail"]
    queued = ada.post("/api/v1/runs", json={**body, "after": [training.id]})
    assert queued.status_code == 202, queued.text
    assert queued.json()["blockers"] == 1
    told = ada.get(f"/api/v1/runs/{queued.json()['id']}/position").json()
    assert told["waits_for"] == f"run {training.id} (queued) to succeed"
    ada.post(f"/api/v1/runs/{training.id}/cancel")
    failed = ada.get(f"/api/v1/runs/{queued.json()['id']}").json()
    assert (failed["state"], failed["failure"]["code"]) == ("failed", "dependency-failed")
    late = ada.post("/api/v1/runs", json={**DIGITS, "after": [training.id]})
    assert refused(late, 422, "spec-invalid")["errors"][0]["pointer"] == "/after/0"


def test_shares_and_quotas_are_an_administrators(lab):
    root, ada = lab.client("root"), lab.client()
    for method, path in (("get", "users"), ("get", "groups"), ("patch", "users/ada")):
        more = {"json": {}} if method == "patch" else {}
        answer = getattr(ada, method)(f"/api/v1/{path}", **more)
        refused(answer, 403, "not-permitted")
    assert root.put("/api/v1/groups/vision", json={"share": 2}).json()["share"] == 2
    changed = root.patch(
        "/api/v1/users/ada", json={"group_name": "vision", "most_queued": 1, "share": 0.5}
    )
    assert changed.json()["group_name"] == "vision", changed.text
    (row,) = [u for u in root.get("/api/v1/users").json()["items"] if u["name"] == "ada"]
    assert (row["most_queued"], row["share"], row["most_hours"]) == (1, 0.5, None)
    assert root.get("/api/v1/groups").json()["items"] == [{"name": "vision", "share": 2}]
    assert ada.post("/api/v1/runs", json=DIGITS).status_code == 202
    refused(ada.post("/api/v1/runs", json=DIGITS), 429, "quota-exceeded")
    freed = root.patch("/api/v1/users/ada", json={"most_queued": None, "group_name": None})
    assert (freed.json()["most_queued"], freed.json()["group_name"]) == (None, None)
    assert ada.post("/api/v1/runs", json=DIGITS).status_code == 202
    refused(root.patch("/api/v1/users/nobody", json={}), 404, "not-found")
    wrong = root.patch("/api/v1/users/ada", json={"share": -1})
    assert refused(wrong, 422, "request-invalid")["errors"][0]["pointer"] == "/share"


def test_a_worker_is_drained_and_a_slot_released(lab):
    run = lab.start()
    root = lab.client("root")
    refused(lab.client().post("/api/v1/workers/host-a/drain"), 403, "not-permitted")
    assert root.post("/api/v1/workers/host-a/drain").status_code == 204
    (worker,) = root.get("/api/v1/workers").json()["items"]
    assert worker["draining"]
    lab.submit()
    assert root.post("/api/v1/workers/host-a/undrain").status_code == 204
    assert root.post("/api/v1/workers/host-a/slots/cpu/0/release").status_code == 204
    refused(root.post("/api/v1/workers/host-a/slots/gpu/7/release"), 404, "not-found")
    refused(root.post("/api/v1/workers/nobody/drain"), 404, "not-found")
    lab.finish(run)


@pytest.mark.parametrize("by", ["user", "experiment", "week", "attempt"])
def test_the_ledger_is_json_and_csv(lab, by):
    lab.finish(lab.start())
    lab.finish(lab.start("bob"), RunState.FAILED)
    ada = lab.client()
    entries = ada.get("/api/v1/ledger", params={"by": by}).json()["items"]
    assert sum(entry["attempts"] for entry in entries) == 2
    if by == "user":
        assert [(e["name"], e["wasted"] > 0) for e in entries] == [("ada", False), ("bob", True)]
    text = ada.get("/api/v1/ledger", params={"by": by, "format": "csv"})
    assert text.headers["content-type"].startswith("text/csv")
    lines = text.text.splitlines()
    assert lines[0] == f"{by},kind,attempts,useful_seconds,wasted_seconds"
    assert len(lines) == 1 + len(entries)
    later = ada.get("/api/v1/ledger", params={"by": by, "since": "2100-01-01T00:00:00"})
    assert later.json()["items"] == []


@pytest.mark.parametrize(
    ("resources", "pointer"),
    [
        ({"gpu_memory": 40}, "/resources/gpus"),
        ({"gpus": 2, "cpu_slots": 2}, "/resources/cpu_slots"),
        ({"queue": "../x"}, "/resources/queue"),
        ({"gpus": 99}, "/resources/gpus"),
    ],
)
def test_resources_that_make_no_sense_are_named(lab, resources, pointer):
    answer = lab.client().post("/api/v1/runs", json={**DIGITS, "resources": resources})
    assert [e["pointer"] for e in refused(answer, 422, "spec-invalid")["errors"]] == [pointer]
