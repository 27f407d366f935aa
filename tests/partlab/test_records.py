"""Cards, entries and certificates of runs in a real API; a worker is played."""

import json
import threading

import pytest

from domain.results import Evaluation
from domain.run_state import RunState
from partlab.client import Client
from store import queue
from store.engine import database_now, writing
from tests import making_weights
from tests.api.lab import LEASE, LiveLab, attack, evaluation


@pytest.fixture
def source(ada, tmp_path) -> str:
    """A finished training with an evaluation and its best weights."""
    run = ada.start(name="the source", preset="pgd-at")
    ada.keep_file(run, "checkpoints/best.safetensors", b"best", tmp_path, role="best")
    ada.evaluate(run, evaluation("suspicious", fails=True))
    ada.finish(run)
    return run.id


@pytest.fixture
def visualised(ada, source) -> str:
    """A run without an evaluation, which trained nothing."""
    with Client(ada.url, ada.tokens["ada"]) as client:
        made = client.submit({"kind": "visualise", "source": {"run": source}}).id
        client.cancel(made)
    return made


def answered(lab: LiveLab, found: Evaluation | None, monkeypatch) -> None:
    """Let every submission be worked on at once: with an evaluation, or to a failure."""
    real = Client.submit

    def submit_and_work(self, spec, **how):
        made = real(self, {**spec, "priority": 80}, **how)
        threading.Timer(0.1, work, (made.id,)).start()
        return made

    def work(run_id: str) -> None:
        with writing(lab.engine) as c:
            claim = queue.claim(c, worker="host-a", now=database_now(c), lease=LEASE)
        assert claim is not None
        assert claim.run.id == run_id
        if found is None:
            failure = {"failure_class": "disk-full", "message": "no room"}
            lab.finish(claim.run, RunState.FAILED, failure=failure)
            return
        lab.evaluate(claim.run, found)
        lab.finish(claim.run)

    monkeypatch.setattr(Client, "submit", submit_and_work)


def again(correct: int, **over) -> Evaluation:
    """The evaluation with another number of images standing under CW."""
    found = evaluation()
    results = (*found.results[:-1], attack("cw-20", correct, steps=20, restarts=2))
    return found.model_copy(update={"results": results, **over})


def test_a_card_is_written_to_the_terminal_or_a_file(part, source, tmp_path):
    shown = part("card", source)
    assert shown.status == 0, shown.err
    assert shown.out.startswith("# the source\n\n**Verdict: suspicious**")
    assert "| cw-20          | linf 51/255  | 60.83 %  | 55.70 to 65.74 % | 360 |" in shown.out
    file = tmp_path / "card.md"
    assert part("card", source, "--output", str(file)).out == f"{file}\n"
    assert file.read_text() == shown.out
    refused = part("card", source, "-o", str(tmp_path / "absent" / "card.md"))
    assert refused.status == 2
    assert "cannot be written: No such file" in refused.err


def test_a_card_of_an_evaluation_tells_of_the_training(ada, part, source, monkeypatch):
    answered(ada, evaluation(), monkeypatch)
    told = json.loads(part("certify", source, "--json").out)
    shown = part("card", told["certified_by"]).out
    assert shown.startswith(f"# certify {source}\n")
    assert f"`{source}` (the source)" in shown
    assert "`training.epochs`" in shown


@pytest.mark.usefixtures("source")  # its host is there
def test_of_uploaded_weights_there_is_a_card_and_a_certificate(ada, part, tmp_path, monkeypatch):
    with Client(ada.url, ada.tokens["ada"]) as client:
        file = tmp_path / "theirs.safetensors"
        file.write_bytes(making_weights.file(classes=10))
        upload = client.upload(file, model="small-cnn").id
        answered(ada, evaluation(), monkeypatch)
        body = {"kind": "evaluate", "source": {"checkpoint": upload}}
        run = client.submit({**body, "data": {"dataset": "digits"}, "name": "theirs"})
        ended = client.wait(run.id)
    assert ended.state == RunState.SUCCEEDED
    told = json.loads(part("certify", run.id, "--json").out)
    assert told["reproduces"]
    assert f"uploaded as checkpoint `{upload}`" in part("card", told["certified_by"]).out


def test_an_entry_is_a_leaderboards_json(part, source):
    said = part("entry", source, "--authors", "A. Author", "--venue", "a venue")
    made = json.loads(said.out)
    assert (made["name"], made["authors"], made["venue"]) == ("the source", "A. Author", "a venue")
    assert (made["eps"], made["clean_acc"], made["autoattack_acc"]) == ("51/255", "96.39", None)
    assert made["unreliable"]
    assert "no AutoAttack was run" in made["footnote"]


def test_what_comes_out_alike_is_certified(ada, part, source, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    answered(ada, again(225), monkeypatch)
    said = part("certify", source)
    assert said.status == 0, said.err
    assert f"certify {source}" in said.out
    rows = {line.split()[0]: line for line in said.out.splitlines() if "%" in line}
    assert "same image by image" in rows["clean"]
    assert "6 of 360" in rows["cw-20"]
    assert "within its interval" in rows["cw-20"]
    assert "the evaluation reproduces: 6 of 6 rows do" in said.out
    assert "…" not in said.out
    assert max(map(len, rows.values())) <= 80


def test_what_does_not_is_exit_status_one(ada, part, source, monkeypatch):
    answered(ada, again(100), monkeypatch)
    said = part("certify", source)
    assert said.status == 1
    assert "the evaluation does not reproduce: 5 of 6 rows do" in said.out


def test_other_weights_are_another_question(ada, part, source, monkeypatch):
    answered(ada, again(219, model_sha256="0" * 64), monkeypatch)
    said = part("certify", source)
    assert said.status == 1
    assert "not the same question:\n  the weights are others: model_sha256 aaaa" in said.out


def test_an_attack_at_another_strength_is_no_answer(ada, part, source, monkeypatch):
    weak = evaluation().model_copy(update={"results": (*evaluation().results[:-1], attack("x", 9))})
    answered(ada, weak, monkeypatch)
    said = part("certify", source)
    assert said.status == 1
    assert "cw-20: the attack was not repeated" in said.out


def test_a_certificate_is_one_json_document_and_takes_a_seed(ada, part, source, monkeypatch):
    answered(ada, evaluation(), monkeypatch)
    said = part("certify", source, "--seed", "9", "--json")
    told = json.loads(said.out)
    assert (said.status, told["run"], told["reproduces"]) == (0, source, True)
    assert [row["outcome"] for row in told["rows"]] == ["same image by image"] * 6
    assert "submitted" in said.err
    with Client(ada.url, ada.tokens["ada"]) as client:
        spec = client.get(told["certified_by"]).spec
    assert (spec["seed"], spec["source"]["run"], spec["source"]["weights"]) == (9, source, "best")


def test_a_certifying_run_that_fails_is_told(ada, part, source, monkeypatch):
    answered(ada, None, monkeypatch)
    said = part("certify", source)
    assert said.status == 1
    assert "failed" in said.err
    assert "disk-full: no room; see it with: part show " in said.err


def test_an_interrupted_certification_leaves_the_run_alone(ada, part, source, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "follow", interrupted)
    said = part("certify", source)
    assert said.status == 130
    assert "The run goes on" in said.err
    assert part("cancel", said.out.split()[1]).status == 0
    assert ada.url


def test_a_run_without_an_evaluation_is_told(ada, part, visualised):
    empty = ada.start()
    for command in ("card", "entry", "certify"):
        missing = part(command, empty.id)
        assert missing.status == 2
        assert "has no evaluation" in missing.err
        wrong = part(command, visualised)
        assert wrong.status == 2
        assert "`visualise`" in wrong.err or "has no evaluation" in wrong.err


def test_a_spec_of_another_version_is_told(part, source, monkeypatch):
    real = Client.get

    def newer(self, run_id):
        run = real(self, run_id)
        return run.model_copy(update={"spec": {**run.spec, "schema_version": 2}})

    monkeypatch.setattr(Client, "get", newer)
    said = part("card", source)
    assert said.status == 3
    assert "another version" in said.err
