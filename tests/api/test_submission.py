import json
import threading
import time
from typing import Any

import pytest

from domain.run_state import RunState
from store import runs
from store.engine import reading
from tests.api.lab import DIGITS, live_lab
from tests.domain.test_presets import BAD as BAD_SPECS


def refused(answer, status: int, code: str) -> dict[str, Any]:
    """The problem of a refused request, its frame checked."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["type"] == f"urn:partlab:problem:{code}"
    assert body["title"]
    assert body["detail"]
    return body


def test_a_submission_is_accepted_expanded_and_findable(lab):
    ada = lab.client()
    answer = ada.post("/api/v1/runs", json=DIGITS)
    assert answer.status_code == 202
    run = answer.json()
    assert answer.headers["location"] == f"/api/v1/runs/{run['id']}"
    assert answer.headers["etag"] == '"1"'
    assert (run["state"], run["owner"], run["preset"]) == ("queued", "ada", "part++")
    assert run["spec"]["method"]["epsilon_high"] == "51/255"
    assert run["submitted_at"].endswith("Z")
    assert ada.get(answer.headers["location"]).json() == run


def test_expanding_shows_the_spec_and_queues_nothing(sqlite_lab):
    eve = sqlite_lab.client("eve")
    before = eve.get("/api/v1/queue").json()["queued"]
    spec = eve.post("/api/v1/specs/expand", json=DIGITS).json()
    assert spec["training"]["epochs"] == 30
    assert eve.post("/api/v1/specs/expand", json=spec).json() == spec
    assert eve.get("/api/v1/queue").json()["queued"] == before


@pytest.mark.parametrize(("over", "pointer", "allowed"), BAD_SPECS)
def test_every_bad_field_is_named_with_what_is_allowed(sqlite_lab, over, pointer, allowed):
    ada = sqlite_lab.client()
    for path in ("/api/v1/runs", "/api/v1/specs/expand"):
        problem = refused(ada.post(path, json={**DIGITS, **over}), 422, "spec-invalid")
        told = {error["pointer"]: error["detail"] for error in problem["errors"]}
        assert allowed in (problem["detail"] if pointer is None else told[pointer])


ISSUE = [
    ({"method": {"epsilon_high": "8"}}, "/method/epsilon_high", '"8/255"'),
    ({"method": {"epsilon_high": "1/0"}}, "/method/epsilon_high", "zero"),
    ({"method": {"epsilon_high": "-8/255"}}, "/method/epsilon_high", "[0, 1]"),
    ({"method": {"epsilon_high": "1e999999999"}}, "/method/epsilon_high", "not a pixel radius"),
    ({"data": {"dataset": "mnist"}}, "/data/dataset", "digits, cifar10"),
    ({"model": {"name": "vgg"}}, "/model/name", "allowed: small-cnn"),
    ({"preset": "madry"}, "/preset", "standard, fgsm-rs, pgd-at, trades"),
    ({"kind": "dream"}, "/kind", "train, evaluate, visualise"),
    ({"colour": "red"}, "/colour", "allowed:"),
    ({"method": {"colour": 1}}, "/method/colour", "allowed:"),
    ({"method": {"epsilon_low": "60/255"}}, "/method/epsilon_low", "above"),
    ({"method": {"warmup_epochs": 99}}, "/method/warmup_epochs", "exceeds"),
    (
        {"evaluation": {"attacks": [{"kind": "mma", "targets": 10}]}},
        "/evaluation/attacks/0/targets",
        "needs 11 classes",
    ),
    ({"model": {"name": "resnet18"}}, "/model/name", "small-cnn"),
    ({"seed": "7\ud800"}, "/seed", "no UTF-8 form"),
]


@pytest.mark.parametrize(("over", "pointer", "allowed"), ISSUE)
def test_the_bad_inputs_of_the_first_issue(sqlite_lab, over, pointer, allowed):
    body = json.dumps({**DIGITS, **over})
    answer = sqlite_lab.client().post(
        "/api/v1/runs", content=body, headers={"Content-Type": "application/json"}
    )
    told = {e["pointer"]: e["detail"] for e in refused(answer, 422, "spec-invalid")["errors"]}
    assert allowed in told[pointer]


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("body", ["", "{", "{'a': 1}", "[1", "\x00"])
def test_a_body_that_is_not_json_is_400(sqlite_lab, body):
    answer = sqlite_lab.client().post("/api/v1/runs", content=body, headers=JSON)
    assert answer.status_code in {400, 422}
    if body:
        refused(answer, 400, "invalid-json")


@pytest.mark.parametrize("body", ["[]", "3", '"x"', "null"])
def test_json_that_is_no_object_is_refused(sqlite_lab, body):
    answer = sqlite_lab.client().post("/api/v1/runs", content=body, headers=JSON)
    refused(answer, 422, "request-invalid")


@pytest.mark.parametrize("body", ["[" * 300_000, '{"seed": ' + "9" * 5000 + "}"])
def test_hostile_json_ends_in_a_refusal(sqlite_lab, body):
    answer = sqlite_lab.client().post("/api/v1/runs", content=body, headers=JSON)
    assert answer.status_code in {400, 422}
    assert answer.json()["code"] in {
        "bad-request",
        "invalid-json",
        "spec-invalid",
        "request-invalid",
    }


def test_a_long_body_is_not_read(sqlite_lab):
    ada = sqlite_lab.client()
    long = b'{"x": "' + b"a" * 1_100_000 + b'"}'
    refused(ada.post("/api/v1/runs", content=long, headers=JSON), 413, "body-too-large")
    in_pieces = (long[i : i + 65_536] for i in range(0, len(long), 65_536))
    refused(ada.post("/api/v1/runs", content=in_pieces, headers=JSON), 413, "body-too-large")


def test_the_same_key_and_body_give_the_same_run(lab):
    ada = lab.client(headers={"Idempotency-Key": "k-1"})
    first = ada.post("/api/v1/runs", json=DIGITS)
    again = ada.post("/api/v1/runs", json=dict(reversed(DIGITS.items())))
    assert first.status_code == again.status_code == 202
    assert first.json()["id"] == again.json()["id"]
    other = ada.post("/api/v1/runs", json={**DIGITS, "seed": 1})
    refused(other, 422, "idempotency-mismatch")
    bob = lab.client("bob", headers={"Idempotency-Key": "k-1"})
    assert bob.post("/api/v1/runs", json=DIGITS).json()["id"] != first.json()["id"]


def test_two_requests_with_one_key_at_once_make_one_run(lab):
    found: list[str] = []

    def submit() -> None:
        client = lab.client(headers={"Idempotency-Key": "at-once"})
        found.append(client.post("/api/v1/runs", json=DIGITS).json()["id"])

    threads = [threading.Thread(target=submit) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(found) == 6
    assert len(set(found)) == 1


def test_a_strange_key_is_refused(sqlite_lab):
    answer = sqlite_lab.client(headers={"Idempotency-Key": "a b"}).post("/api/v1/runs", json=DIGITS)
    problem = refused(answer, 422, "request-invalid")
    assert problem["errors"][0]["pointer"] == "header idempotency-key"


# ---- starting from a finished run ---------------------------------------------------------------


def evaluate(client, run_id: str, **over: Any):
    return client.post("/api/v1/runs", json={"kind": "evaluate", "source": {"run": run_id}, **over})


def test_a_finished_run_with_a_checkpoint_can_be_attacked_again_and_drawn(lab, tmp_path):
    run = lab.start(data={"dataset": "digits", "train_limit": 200})
    lab.keep_file(run, "checkpoints/best.safetensors", b"w", tmp_path, role="best")
    lab.finish(run)
    ada = lab.client()
    answer = evaluate(ada, run.id, evaluation={"attacks": [{"kind": "pgd", "steps": 50}]})
    assert answer.status_code == 202, answer.text
    spec = answer.json()["spec"]
    assert spec["data"]["train_limit"] == 200
    assert spec["evaluation"]["attacks"][0]["steps"] == 50
    drawn = ada.post("/api/v1/runs", json={"kind": "visualise", "source": {"run": run.id}})
    assert drawn.json()["spec"]["epsilon_high"] == "51/255"
    last = evaluate(ada, run.id, source={"run": run.id, "weights": "last"})
    told = refused(last, 422, "spec-invalid")["errors"]
    assert told[0]["pointer"] == "/source/run"
    assert "it has best" in told[0]["detail"]
    other_model = evaluate(ada, run.id, model={"name": "resnet18"})
    assert refused(other_model, 422, "spec-invalid")["errors"][0]["pointer"].startswith("/model")
    of_evaluation = evaluate(ada, answer.json()["id"])
    assert "of kind `evaluate`" in refused(of_evaluation, 422, "spec-invalid")["detail"]


def test_a_source_that_is_not_there_is_named(lab):
    ada = lab.client()
    queued = lab.submit()
    for run_id in ("0" * 18, "nonsense", "\x00", queued.id):
        answer = evaluate(ada, run_id)
        assert refused(answer, 422, "spec-invalid")["errors"][0]["pointer"] == "/source/run"
    for body in ({}, {"source": {}}, {"source": "x"}, {"source": {"run": 3}}):
        answer = ada.post("/api/v1/runs", json={"kind": "evaluate", **body})
        assert answer.status_code == 422
    odd = evaluate(ada, queued.id, source={"run": queued.id, "weights": ["best"]})
    assert refused(odd, 422, "spec-invalid")["errors"][0]["pointer"] == "/source/weights"


def test_the_networks_of_transfer_attacks_are_looked_up_and_named(lab, tmp_path):
    run = lab.start(data={"dataset": "digits", "train_limit": 200})
    lab.keep_file(run, "checkpoints/best.safetensors", b"w", tmp_path, role="best")
    lab.finish(run)
    ada = lab.client()

    def attacked_from(source: Any):
        return evaluate(
            ada, run.id, evaluation={"attacks": [{"kind": "transfer", "source": source}]}
        )

    accepted = attacked_from({"run": run.id})
    assert accepted.status_code == 202, accepted.text
    (attack,) = accepted.json()["spec"]["evaluation"]["attacks"]
    assert attack["model"] == {"name": "small-cnn"}
    at = "/evaluation/attacks/0/source"
    for source, pointer in (
        ({"run": "0" * 18}, f"{at}/run"),
        ({"run": run.id, "weights": "last"}, f"{at}/run"),
        ({"checkpoint": "../../etc/passwd"}, f"{at}/checkpoint"),
        ("x", at),
        (None, at),
    ):
        told = refused(attacked_from(source), 422, "spec-invalid")["errors"]
        assert [error["pointer"] for error in told] == [pointer]


# ---- the doorbell -------------------------------------------------------------------------------


@pytest.mark.parametrize("broker", ["redis://127.0.0.1:1/0", "redis://10.255.255.1:6379/0"])
def test_a_dead_broker_neither_fails_nor_slows_a_submission(tmp_path, broker):
    with live_lab("sqlite", tmp_path, broker_url=broker) as lab:
        ada = lab.client()
        ada.get("/api/v1/me")
        start = time.monotonic()
        ids = [ada.post("/api/v1/runs", json=DIGITS).json()["id"] for _ in range(5)]
        assert time.monotonic() - start < 5
        with reading(lab.engine) as connection:
            assert {runs.get(connection, i).state for i in ids} == {RunState.QUEUED}
