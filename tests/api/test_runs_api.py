import threading
import time

import pytest

from api.etags import etag_matches, required
from domain.run_state import RunState
from store import fleet
from store.engine import writing
from store.rows import SlotSpec
from tests.api.lab import LiveLab
from tests.api.test_submission import refused


def test_a_run_one_has_is_not_sent_again(lab):
    ada, run = lab.client(), lab.submit()
    path = f"/api/v1/runs/{run.id}"
    for known in ('"1"', 'W/"1"', '"9", "1"', "*"):
        answer = ada.get(path, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == '"1"'
    ada.post(f"{path}/cancel")
    answer = ada.get(path, headers={"If-None-Match": '"1"'})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')


def test_etags_are_compared_as_rfc_9110_says():
    assert required(None) is None
    assert required("*") is None
    assert required('"3", W/"4", "x"') == {3}
    assert etag_matches('W/"4"', 4)
    assert not etag_matches("4", 4)
    assert not etag_matches(None, 4)


def test_a_long_poll_answers_when_the_run_changes(lab):
    ada, run = lab.client(), lab.submit()
    path = f"/api/v1/runs/{run.id}"
    timer = threading.Timer(0.3, lambda: lab.client().post(f"{path}/cancel"))
    timer.start()
    answer = ada.get(path, params={"wait": 30}, headers={"If-None-Match": '"1"'})
    timer.join()
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    # A run that has ended will not change: no reason to wait.
    start = time.monotonic()
    answer = ada.get(path, params={"wait": 30}, headers={"If-None-Match": '"2"'})
    assert answer.status_code == 304
    assert time.monotonic() - start < 20


def test_a_long_poll_without_a_tag_waits_for_the_next_version(lab):
    ada, run = lab.client(), lab.submit()
    assert ada.get(f"/api/v1/runs/{run.id}", params={"wait": 0.1}).json()["version"] == 1
    old = ada.get(f"/api/v1/runs/{run.id}", params={"wait": 30}, headers={"If-None-Match": '"0"'})
    assert old.json()["version"] == 1


def test_many_long_polls_hold_no_thread(sqlite_lab):
    """Twelve waiting requests on four threads: another one is answered meanwhile."""
    run = sqlite_lab.submit()
    answers: list[int] = []

    def wait() -> None:
        path = f"/api/v1/runs/{run.id}?wait=20"
        answers.append(sqlite_lab.client().get(path).status_code)

    threads = [threading.Thread(target=wait) for _ in range(12)]
    for thread in threads:
        thread.start()
    assert sqlite_lab.client().get("/api/v1/me").status_code == 200
    sqlite_lab.client().post(f"/api/v1/runs/{run.id}/cancel")
    for thread in threads:
        thread.join(timeout=30)
    assert answers == [200] * 12


@pytest.mark.parametrize("wait", ["-1", "61", "x"])
def test_a_wait_is_bounded(sqlite_lab, wait):
    answer = sqlite_lab.client().get(f"/api/v1/runs/{sqlite_lab.submit().id}?wait={wait}")
    problem = refused(answer, 422, "request-invalid")
    assert problem["errors"][0]["pointer"] == "?wait"


def test_lists_are_filtered_and_paged_without_repeats(lab):
    ada = lab.client()
    made = [lab.submit(experiment="paging", name=f"run {i}").id for i in range(7)]
    other = lab.submit("bob", experiment="paging-2")
    ada.post(f"/api/v1/runs/{made[0]}/cancel")
    seen, cursor = [], None
    while True:
        params = {"experiment": "paging", "limit": 3} | ({"cursor": cursor} if cursor else {})
        page = ada.get("/api/v1/runs", params=params).json()
        seen += [run["id"] for run in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == made[::-1]

    def ids(**params: object) -> set[str]:
        return {run["id"] for run in ada.get("/api/v1/runs", params=params).json()["items"]}

    assert ids(experiment="paging", state="cancelled") == {made[0]}
    assert ids(experiment="paging", state=["cancelled", "queued"]) == set(made)
    assert ids(owner="bob", experiment="paging-2") == {other.id}
    assert ids(q="RUN 3", experiment="paging") == {made[3]}
    assert ids(q="%", experiment="paging") == set()


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "?limit"),
        ("limit=201", "?limit"),
        ("state=happy", "?state"),
        ("cursor=x", "?cursor"),
        ("q=%00", "?q"),
        ("experiment=%00", "?experiment"),
        ("owner=%00", "?owner"),
    ],
)
def test_a_bad_filter_is_named(sqlite_lab, query, pointer):
    problem = refused(sqlite_lab.client().get(f"/api/v1/runs?{query}"), 422, "request-invalid")
    assert problem["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("run_id", ["0" * 18, "x", "A" * 18, "%00", "..%2f.."])
def test_a_run_that_is_not_there_is_404_everywhere(lab, run_id):
    ada = lab.client()
    for tail in ("", "/events", "/position", "/stream", "/metrics", "/metrics/history?name=a"):
        answer = ada.get(f"/api/v1/runs/{run_id}{tail}")
        assert answer.status_code == 404
        assert answer.json()["code"] == "not-found"
    for tail in ("/logs", "/artifacts", "/evaluations", f"/artifacts/{'0' * 18}/content"):
        assert ada.get(f"/api/v1/runs/{run_id}{tail}").status_code == 404
    for tail in ("/cancel", "/retry"):
        assert ada.post(f"/api/v1/runs/{run_id}{tail}").status_code == 404


def test_cancelling_honours_if_match_and_a_finished_run(lab):
    ada, run = lab.client(), lab.submit()
    path = f"/api/v1/runs/{run.id}/cancel"
    refused(ada.post(path, headers={"If-Match": '"7"'}), 412, "version-mismatch")
    refused(ada.post(path, headers={"If-Match": 'W/"1"'}), 412, "version-mismatch")
    answer = ada.post(path, headers={"If-Match": '"1"'})
    assert (answer.json()["state"], answer.headers["etag"]) == ("cancelled", '"2"')
    refused(ada.post(path), 409, "invalid-transition")


def test_cancelling_a_running_run_asks_its_worker(lab):
    ada, run = lab.client(), lab.start()
    assert ada.post(f"/api/v1/runs/{run.id}/cancel").json()["state"] == "cancelling"
    assert ada.post(f"/api/v1/runs/{run.id}/cancel").json()["state"] == "cancelling"
    refused(ada.post(f"/api/v1/runs/{run.id}/retry"), 409, "invalid-transition")
    lab.finish(run, RunState.CANCELLED)
    events = ada.get(f"/api/v1/runs/{run.id}/events").json()["items"]
    assert [e["target"] for e in events] == ["queued", "running", "cancelling", "cancelled"]
    assert events[2]["actor"] == "ada"
    later = ada.get(f"/api/v1/runs/{run.id}/events", params={"after": events[2]["id"]}).json()
    assert later["items"] == events[3:]


def test_a_retry_is_a_new_run_of_the_same_spec(lab):
    ada, run = lab.client(), lab.start(seed=7)
    lab.finish(run, RunState.FAILED, failure={"code": "x", "message": "m"})
    answer = ada.post(f"/api/v1/runs/{run.id}/retry")
    assert answer.status_code == 202
    again = answer.json()
    assert answer.headers["location"].endswith(again["id"])
    assert (again["retry_of"], again["state"], again["seed"]) == (run.id, "queued", 7)
    assert again["spec_sha256"] == run.spec_sha256
    assert ada.get(f"/api/v1/runs/{run.id}").json()["failure"]["message"] == "m"
    ada.post(f"/api/v1/runs/{again['id']}/cancel")


def test_a_position_says_what_a_run_waits_for(lab: LiveLab):
    ada, first, second = lab.client(), lab.submit(priority=-9), lab.submit(priority=-10)
    told = ada.get(f"/api/v1/runs/{second.id}/position").json()
    assert told["ahead"] >= 1
    assert told["waits_for"]
    ada.post(f"/api/v1/runs/{first.id}/cancel")
    assert "nothing" in ada.get(f"/api/v1/runs/{first.id}/position").json()["waits_for"]


def test_queue_and_workers_tell_what_runs_where(lab):
    run = lab.start()
    ada = lab.client()
    told = ada.get("/api/v1/queue").json()
    assert told["running"] >= 1
    assert told["cpu_busy"] >= 1
    (worker,) = [w for w in ada.get("/api/v1/workers").json()["items"] if w["name"] == "host-a"]
    assert run.id in {slot["run_id"] for slot in worker["slots"]}
    with writing(lab.engine) as c:
        offered = [SlotSpec("gpu", 0, "a GPU")]
        fleet.register_worker(c, name="b", host="b", pid=2, offered=offered, now=run.submitted_at)
    assert ada.get("/api/v1/queue").json()["gpu_slots"] == 1
