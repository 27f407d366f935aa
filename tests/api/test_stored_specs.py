"""Runs that an earlier version accepted, and this one would not: shown as ever, told when asked."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from domain.run_state import RunState
from store import tables
from store.engine import writing
from store.rows import RunRow
from tests.api.lab import judged
from tests.api.test_auth_api import log_in
from tests.api.test_every_page import PARTS
from tests.worker.lab import ended, look, submit, working


def put(*path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(spec: dict[str, Any]) -> None:
        for step in path[:-1]:
            spec = spec[step]
        spec[path[-1]] = value

    return change


OWN = {
    "/tags": put("tags", value=[f"t{i}" for i in range(50)]),
    "/training/checkpoint_minutes": put("training", "checkpoint_minutes", value=1e9),
    "/training/batch_size": put("training", "batch_size", value=1),
}
"""What is refused, and hands nothing on to who evaluates the weights."""
HANDED_ON = {
    "/evaluation/budget_seconds": put("evaluation", "budget_seconds", value=1e9),
    "/model/name": put("model", "name", value="torchvision:inception_v3"),
    "/data/pad": put("data", "pad", value=-1),
    "/method/kind": put("method", "kind", value="of-last-year"),
    "/old_field": put("old_field", value=1),
}
"""What is refused, and decides what the weights are or how they would be judged."""
EVERY = OWN | HANDED_ON


def rewrite(engine: Engine, run: RunRow, change: Callable[[dict[str, Any]], None]) -> None:
    """Let a stored run say what another version would have let it say."""
    spec = copy.deepcopy(run.spec)
    change(spec)
    with writing(engine) as c:
        c.execute(sa.update(tables.runs).where(tables.runs.c.id == run.id).values(spec=spec))


@pytest.fixture(scope="module")
def old(lab, tmp_path_factory) -> dict[str, str]:
    """The id of a trained run for each of EVERY."""
    found = {}
    for pointer, change in EVERY.items():
        run = lab.start()
        folder = tmp_path_factory.mktemp("files")
        lab.keep_file(run, "checkpoints/best.safetensors", b"w", folder, role="best", epoch=3)
        lab.keep_file(run, "figures/budget.png", b"png", folder, kind="figure")
        lab.evaluate(run, judged())
        lab.finish(run)
        rewrite(lab.engine, run, change)
        found[pointer] = run.id
    return found


@pytest.mark.parametrize("pointer", EVERY)
def test_it_is_shown(lab, old, pointer):
    client, run_id = lab.client(), old[pointer]
    browser = log_in(lab, "ada")
    for path in ("", "/events", "/artifacts", "/evaluations", "/metrics"):
        assert client.get(f"/api/v1/runs/{run_id}{path}").status_code == 200
    for part in PARTS:
        assert browser.get(f"/runs/{run_id}/parts/{part}").status_code == 200
    assert "cannot be shown" not in browser.get("/").text
    assert run_id in browser.get(f"/runs/{run_id}").text


@pytest.mark.parametrize("pointer", EVERY)
def test_a_retry_is_told_which_field_is_refused_now(lab, old, pointer):
    answer = lab.client().post(f"/api/v1/runs/{old[pointer]}/retry")
    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    assert error["pointer"] == pointer
    assert "another version of PART Lab took it" in error["detail"]


@pytest.mark.parametrize("kind", ["evaluate", "visualise"])
@pytest.mark.parametrize("pointer", OWN)
def test_its_weights_can_be_built_upon(lab, old, pointer, kind):
    body = {"kind": kind, "source": {"run": old[pointer]}}
    answer = lab.client().post("/api/v1/runs", json=body)
    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize("kind", ["evaluate", "visualise"])
@pytest.mark.parametrize("pointer", HANDED_ON)
def test_weights_that_cannot_be_built_upon_say_why(lab, old, pointer, kind):
    body = {"kind": kind, "source": {"run": old[pointer]}}
    answer = lab.client().post("/api/v1/runs", json=body)
    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    assert error["pointer"] == "/source/run"
    assert f"{pointer}: " in error["detail"]


@pytest.mark.parametrize("pointer", EVERY)
def test_one_that_still_waits_fails_by_name_and_costs_no_attempts(sqlite_engine, tmp_path, pointer):
    """It would otherwise be begun again and again, until it counts as lost."""
    run_id = submit(sqlite_engine)
    rewrite(sqlite_engine, look(sqlite_engine, run_id), EVERY[pointer])
    with working(sqlite_engine, tmp_path):
        row = ended(sqlite_engine, run_id)
    assert (row.state, row.attempt, row.losses) == (RunState.FAILED, 1, 0)
    assert row.failure["failure_class"] == "spec"
    assert f"{pointer}: " in row.failure["message"]
