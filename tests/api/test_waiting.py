"""What a run waits for, and how long it took, wherever a run is shown."""

from datetime import timedelta

import pytest

from domain.run_state import RunState
from store import fleet, queue, runs
from store.engine import database_now, writing
from store.rows import SlotSpec, Vitals
from tests.api.lab import DIGITS, LEASE

CIFAR = {"preset": "part++", "data": {"dataset": "cifar10"}}


@pytest.fixture
def worker(sqlite_lab):
    """A worker of one CPU slot and no data."""
    with writing(sqlite_lab.engine) as c:
        now = database_now(c)
        offered = [SlotSpec("cpu", 0, "a test CPU")]
        fleet.register_worker(c, name="w", host="h", pid=1, offered=offered, now=now)
        seen = Vitals(0.0, 1, 1, 0, datasets=())
        fleet.worker_alive(c, "w", busy_slots=(), now=now, vitals=seen)


@pytest.mark.usefixtures("worker")
def test_a_submission_is_answered_with_what_it_waits_for(sqlite_lab):
    ada = sqlite_lab.client()

    def told(**body):
        answer = ada.post("/api/v1/runs", json=body)
        assert answer.status_code == 202, answer.text
        return answer.json()

    first = told(**DIGITS)
    assert first["waits"] is None
    assert first["took_seconds"] is None
    missing, gpu = told(**CIFAR), told(**DIGITS, resources={"gpus": 1})
    after = told(**DIGITS, after=[first["id"]])
    said = [run["waits"]["state"] for run in (missing, gpu, after)]
    assert said == ["data missing", "no such device", f"waits for {first['id']}"]
    paused = ada.post(f"/api/v1/runs/{first['id']}/pause").json()
    assert paused["waits"]["why"] == "paused"
    assert "part resume" in paused["waits"]["waits_for"]
    resumed = ada.post(f"/api/v1/runs/{first['id']}/resume").json()
    assert resumed["waits"] is None
    listed = {run["id"]: run for run in ada.get("/api/v1/runs").json()["items"]}
    for run in (missing, gpu, after):
        assert listed[run["id"]]["waits"] == run["waits"]
        assert ada.get(f"/api/v1/runs/{run['id']}").json()["waits"] == run["waits"]
        position = ada.get(f"/api/v1/runs/{run['id']}/position").json()
        assert (position["why"], position["waits_for"]) == (
            run["waits"]["why"],
            run["waits"]["waits_for"],
        )
    page = ada.get("/").text
    for words in ("data missing", "no such device", f"waits for {first['id']}"):
        assert words in page


@pytest.mark.usefixtures("worker")
def test_the_page_comes_anew_when_data_comes(sqlite_lab):
    """No run has changed; what one of them waits for has."""
    sqlite_lab.submit(**CIFAR)
    ada = sqlite_lab.client()
    page = ada.get("/").text
    digest = page.partition('"seen": "')[2].partition('"')[0]
    assert ada.get("/", params={"seen": digest}).status_code == 204
    with writing(sqlite_lab.engine) as c:
        seen = Vitals(0.0, 1, 1, 0, datasets=("cifar10",))
        fleet.worker_alive(c, "w", busy_slots=(), now=database_now(c), vitals=seen)
    again = ada.get("/", params={"seen": digest})
    assert again.status_code == 200
    assert "data missing" not in again.text


@pytest.mark.usefixtures("worker")
def test_workers_say_which_data_they_have(sqlite_lab):
    (worker,) = sqlite_lab.client().get("/api/v1/workers").json()["items"]
    assert worker["datasets"] == []


@pytest.mark.usefixtures("worker")
def test_one_clock_says_what_a_run_took(sqlite_lab):
    run, ada = sqlite_lab.submit(priority=90), sqlite_lab.client()
    with writing(sqlite_lab.engine) as c:
        now = database_now(c)
        later = [now + timedelta(seconds=s) for s in (10, 50, 55)]
        claim = queue.claim(c, worker="w", now=now, lease=LEASE)
        assert claim is not None
        queue.hand_back(c, run.id, 1, now=later[0], reason="")
        assert queue.claim(c, worker="w", now=later[1], lease=LEASE) is not None
        how = {"to": RunState.SUCCEEDED, "now": later[2], "reason": "", "attempt": 2}
        runs.transition(c, run.id, **how)
    shown = ada.get(f"/api/v1/runs/{run.id}").json()
    assert shown["took_seconds"] == 15
    (listed,) = ada.get("/api/v1/runs", params={"q": run.id}).json()["items"]
    assert listed["took_seconds"] == 15
    log = ada.get(f"/api/v1/runs/{run.id}/logs").json()["items"]
    assert log[-1]["message"] == "succeeded after 15.0 s, in 2 attempts"
