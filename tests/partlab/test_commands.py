"""Every command against a real API; output as it goes into a pipe."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import threading

import pytest

from domain.run_state import RunState
from partlab.client import Client
from store import fleet, queue
from store.engine import database_now, writing
from store.rows import SlotSpec
from tests import making_weights
from tests.api.lab import DIGITS, LEASE, LiveLab, evaluation, judged

ESCAPE = "\x1b"
SPEC = ["--preset", "part++", "--set", "data.dataset=digits"]


def submitted(lab: LiveLab, **over) -> str:
    with Client(lab.url, lab.tokens["ada"]) as client:
        return client.submit({**DIGITS, **over}).id


def json_lines(text: str) -> list:
    return [json.loads(line) for line in text.splitlines()]


# Submit


def test_submit_queues_a_run_and_says_where(ada, part, tmp_path):
    file = tmp_path / "digits.yaml"
    file.write_text("preset: part\ndata: {dataset: digits}\n")
    said = part("submit", str(file), "--set", "method.mask.tau=4", "--preset", "part++", "--json")
    assert said.status == 0
    run = json.loads(said.out)
    assert run["preset"] == "part++"
    assert run["spec"]["method"]["mask"]["tau"] == 4
    said = part("submit", *SPEC)
    assert said.out.startswith("submitted ")
    assert f"{ada.url}/runs/" in said.out


@pytest.mark.usefixtures("ada")
def test_a_dry_run_shows_the_spec_and_queues_nothing(part):
    before = part("ls", "--json").out
    said = part("submit", *SPEC, "--dry-run")
    assert json.loads(said.out)["training"]["epochs"] == 30
    assert part("ls", "--json").out == before


@pytest.mark.usefixtures("ada")
def test_a_wrong_spec_is_told_field_by_field(part):
    wrong = [*SPEC, "--set", "method.epsilon_low=8", "--set", "training.epochs=0"]
    said = part("submit", *wrong)
    assert said.status == 2
    assert said.out == ""
    assert "method.epsilon_low: 8 is outside [0, 1]" in said.err
    assert "training.epochs: " in said.err
    body = json.loads(part("submit", *wrong, "--json").err)
    assert body["code"] == "spec-invalid"
    assert {e["pointer"] for e in body["errors"]} == {"/method/epsilon_low", "/training/epochs"}


@pytest.mark.usefixtures("ada")
def test_nothing_to_submit_is_told(part):
    said = part("submit")
    assert (said.status, said.out) == (2, "")
    assert "--preset" in said.err
    assert "Traceback" not in said.err
    assert json.loads(part("submit", "absent.yaml", "--json").err)["code"] == "client-error"


def test_following_a_run_ends_with_its_table(ada, part, monkeypatch):
    real = Client.submit

    def submit_and_work(self, spec, **how):
        made = real(self, {**spec, "priority": 60}, **how)
        threading.Timer(0.3, work, (ada, made.id)).start()
        return made

    monkeypatch.setattr(Client, "submit", submit_and_work)
    said = part("submit", *SPEC, "--follow")
    assert said.status == 0, said.err
    assert "queued" in said.out
    assert "half way" in said.out, "a pipe gets the run's own lines"
    assert "part++ succeeded after" in said.out
    assert "worst-case" in said.out
    assert "fails mask alive (suspicious)" in said.out
    assert ESCAPE not in said.out
    said = part("submit", *SPEC, "--follow", "--json")
    lines = json_lines(said.out)
    assert lines[-1]["event"] == "end"
    assert lines[-1]["data"]["state"] == "succeeded"
    assert {"state", "log", "progress", "metrics"} <= {line["event"] for line in lines}


def work(lab: LiveLab, run_id: str) -> None:
    """Do as a worker would with the run that was just submitted."""
    with writing(lab.engine) as c:
        slots = [SlotSpec("cpu", index, "a test CPU") for index in range(100)]
        now = database_now(c)
        fleet.register_worker(c, name="host-a", host="a", pid=1, offered=slots, now=now)
        claim = queue.claim(c, worker="host-a", now=now, lease=LEASE)
    assert claim is not None
    assert claim.run.id == run_id
    lab.advance(claim.run, phase="train", done=3, total=4, unit="step", images_per_second=1234.5)
    lab.log(claim.run, "half way")
    lab.measure(claim.run, 0, [0], train_loss=[float("inf")])
    lab.evaluate(claim.run, evaluation("suspicious", fails=True))
    # The stream looks every few milliseconds; what is not seen on the way is not what is tested.
    threading.Event().wait(0.3)
    lab.finish(claim.run)


@pytest.mark.usefixtures("ada")
def test_a_failed_run_is_exit_status_one(failed, part):
    assert "data-missing: no cifar10 here" in part("show", failed.id).out
    said = part("logs", failed.id, "--follow")
    assert said.status == 1
    again = part("retry", failed.id)
    assert again.status == 0
    assert "queued" in again.out
    # It would be claimed before what later tests submit.
    assert part("cancel", again.out.split()[0]).status == 0


# See


@pytest.mark.usefixtures("ada", "failed")
def test_ls_lists_newest_first_in_whole_rows(finished, part):
    said = part("ls", "--text", "the ", "--state", "failed", "--state", "succeeded")
    rows = said.out.splitlines()
    assert rows[0].split()[:3] == ["run", "state", "what"]
    identifiers = [row.split()[0] for row in rows[1:]]
    assert identifiers == sorted(identifiers, reverse=True)
    (row,) = (row for row in rows if row.startswith(finished.id))
    for words in ("succeeded", "the finished one", "digits", "96.0 %", "59.0 %", "suspicious"):
        assert words in row
    assert ESCAPE not in said.out


@pytest.mark.usefixtures("ada")
def test_ls_cuts_nothing_in_a_narrow_window(finished, part, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = part("ls", "--state", "succeeded")
    assert finished.id in said.out
    assert "59.0 %" in said.out
    assert "…" not in said.out


@pytest.mark.usefixtures("finished", "failed")
def test_ls_filters(ada, part):
    only = part("ls", "--state", "failed", "--json", "--mine")
    assert {run["state"] for run in json.loads(only.out)} == {"failed"}
    submitted(ada)
    submitted(ada)
    assert "--limit shows more than 1" in part("ls", "--limit", "1").out
    assert part("ls", "--experiment", "none of it").out == "There is no run.\n"
    assert part("ls", "--state", "nonsense").status == 2
    refused = part("ls", "--experiment", "!")
    assert refused.status == 2
    assert "?experiment" in refused.err


@pytest.mark.usefixtures("ada")
def test_show_tells_everything_of_a_run(finished, part):
    said = part("show", finished.id, "--events")
    for words in (
        "the finished one (part++, small-cnn)",
        "baseline",
        "worst-case",
        "59.4 %",
        "54.3 - 64.4 %",
        "audit: suspicious (1 of 2 checks hold)",
        "fails mask alive (suspicious): 72 % of pixels have S > 0.95",
        "weights/final.safetensors",
        "checkpoint (last)",
        "claimed by",
    ):
        assert words in said.out, words
    assert ESCAPE not in said.out
    whole = json.loads(part("show", finished.id, "--json").out)
    assert whole["evaluations"][0]["record"]["worst_case"]["correct"] == 214
    assert len(whole["artifacts"]) == 3
    assert json.loads(part("show", finished.id, "--spec").out)["seed"] == 42


def test_show_tells_why_a_run_waits_and_how_far_it_is(ada, part):
    queued = submitted(ada)
    assert "waits for" in part("show", queued).out
    run = ada.start(name="deep")
    ada.advance(run, phase="evaluate", done=5, total=9, unit="image", detail="pgd-20")
    assert "running  evaluate 5/9, pgd-20" in part("show", run.id).out
    first = ada.start()
    ada.finish(first, RunState.FAILED, failure={"failure_class": "code", "message": "oh"})
    again = json.loads(part("retry", first.id, "--json").out)
    assert first.id in part("show", again["id"]).out
    assert part("cancel", again["id"]).status == 0


@pytest.mark.usefixtures("ada")
def test_logs_show_level_and_time(finished, part):
    said = part("logs", finished.id)
    *lines, ending = [line.split("  ", 1)[1] for line in said.out.splitlines()]
    assert lines == ["reading the images", "warning: the loss is high"]
    assert ending.startswith("succeeded after ")
    (last,) = json_lines(part("logs", finished.id, "-n", "1", "--json").out)
    assert last["message"] == ending
    followed = part("logs", finished.id, "-f")
    assert (followed.status, followed.out) == (0, said.out)


def test_what_a_run_says_is_never_markup(ada, part):
    run = ada.start()
    ada.log(run, "[bold red]not[/] markup [/nonsense] :smile: \\[x]")
    ada.finish(run)
    assert "[bold red]not[/] markup [/nonsense] :smile: \\[x]" in part("logs", run.id).out


@pytest.mark.usefixtures("ada")
def test_metrics_are_a_table_csv_or_json(finished, part):
    said = part("metrics", finished.id)
    loss, accuracy = said.out.splitlines()[1:]
    assert loss.split() == ["train/loss", "1.5", "2", "1.5", "2.5", "3", "█·▁"]
    assert accuracy.split()[-1] == "▁▅█"
    rows = list(csv.reader(io.StringIO(part("metrics", finished.id, "train/*", "--csv").out)))
    assert rows == [
        ["series", "step", "value"],
        ["train/loss", "0", "2.5"],
        ["train/loss", "1", "nan"],
        ["train/loss", "2", "1.5"],
    ]
    (one,) = json.loads(part("metrics", finished.id, "train/loss", "--json").out)
    assert one["values"] == [2.5, "NaN", 1.5]
    unknown = part("metrics", finished.id, "nope")
    assert unknown.status == 2
    assert "nope" in unknown.err


def test_a_run_without_points_says_so(ada, part):
    assert part("metrics", submitted(ada)).out == "There is no series yet.\n"


# End, fetch, go on


def test_cancel(ada, part):
    run = submitted(ada)
    assert part("cancel", run).out.split() == [run, "cancelled"]
    again = part("cancel", run, "--json")
    assert again.status == 1
    assert json.loads(again.err)["code"] == "invalid-transition"


@pytest.mark.usefixtures("ada")
def test_get_fetches_all_or_some_files(finished, part, tmp_path, monkeypatch):
    said = part("get", finished.id, "figures/*", "weights", "-o", str(tmp_path / "some"))
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert files == {"some/figures/budget.png", "some/weights/final.safetensors"}
    assert "341.8 KiB" in said.out
    monkeypatch.chdir(tmp_path)
    every = json_lines(part("get", finished.id, "--json").out)
    assert {e["name"] for e in every} == {
        "weights/final.safetensors", "figures/budget.png", "checkpoints/last.safetensors"
    }  # fmt: skip
    assert (tmp_path / every[0]["file"]).is_file()
    missing = part("get", finished.id, "absent")
    assert missing.status == 2
    assert "figures/budget.png" in missing.err


@pytest.mark.usefixtures("ada")
def test_evaluate_queues_an_evaluation_of_a_checkpoint(finished, part):
    options = ["--weights", "last", "--set", "evaluation.attacks=[{kind: pgd, steps: 50}]"]
    run = json.loads(part("evaluate", finished.id, *options, "--json").out)
    assert run["kind"] == "evaluate"
    source = {"run": finished.id, "checkpoint": None, "weights": "last"}
    assert run["spec"]["source"] == source
    assert run["spec"]["evaluation"]["attacks"][0]["steps"] == 50
    missing = part("evaluate", finished.id, "--weights", "best")
    assert missing.status == 2
    assert "source.run" in missing.err
    assert "no 'best' checkpoint" in missing.err


@pytest.mark.usefixtures("ada")
def test_a_suite_is_written_out_in_the_spec(finished, part):
    run = json.loads(
        part("evaluate", finished.id, "--weights", "last", "--suite", "report", "--json").out
    )
    assert run["spec"]["evaluation"]["suite"] == "report"
    assert [a["kind"] for a in run["spec"]["evaluation"]["attacks"]][-2:] == ["mma", "autoattack"]
    wrong = part("evaluate", finished.id, "--weights", "last", "--suite", "best")
    assert wrong.status == 2
    assert "unknown suite 'best'; allowed: quick, report" in wrong.err


def test_evaluations_are_audited_compared_and_put_into_tables(ada, part):
    here, there, empty = ada.start(), ada.start(), ada.start()
    ada.evaluate(here, judged(219))
    ada.evaluate(there, judged(190, epsilon="0.031"))
    said = part("audit", here.id)
    assert said.status == 0
    assert "union-exact" in said.out
    assert "does-not-apply" in said.out
    assert json.loads(part("audit", here.id, "--json").out)["verdict"] == "sound"
    refused = part("compare", here.id, there.id)
    assert refused.status == 1
    assert "the threat models differ" in refused.err
    said = part("compare", here.id, there.id, "--force")
    assert "forced: " in said.out
    assert "+8.1" in said.out
    forced = json.loads(part("compare", here.id, there.id, "--force", "--json").out)
    assert forced["differences"][-1]["only_here"] == 29
    unlike = part("table", here.id, there.id)
    assert unlike.status == 2
    assert here.id in unlike.err
    assert "--force" in unlike.err
    assert "| 60.83 [" in part("table", here.id, there.id, "--force").out
    assert part("table", here.id, "--format", "csv").out.count("\n") == 5
    assert r"\begin{tabular}" in part("table", here.id, "--format", "latex").out
    assert json.loads(part("table", here.id, "--format", "json").out)[0]["run"] == here.id
    for command in ("audit", "table"):
        missing = part(command, empty.id)
        assert missing.status == 2
        assert "has no evaluation" in missing.err


def test_an_unsound_evaluation_is_exit_status_one(ada, part):
    run = ada.start()
    ada.evaluate(run, evaluation("suspicious", fails=True))
    said = part("audit", run.id)
    assert said.status == 1
    assert "lower tau, or use the centred sigmoid" in said.out


def test_visualise_draws_and_fetches_the_picture(ada, part, tmp_path, monkeypatch):
    source = ada.start()
    ada.keep_file(source, "checkpoints/best.safetensors", b"best", tmp_path, role="best")
    ada.finish(source)
    real = Client.submit

    def submit_and_draw(self, spec, **how):
        made = real(self, {**spec, "priority": 70}, **how)
        threading.Timer(0.1, draw, (ada, made.id)).start()
        return made

    def draw(lab: LiveLab, run_id: str) -> None:
        with writing(lab.engine) as c:
            claim = queue.claim(c, worker="host-a", now=database_now(c), lease=LEASE)
        assert claim is not None
        assert claim.run.id == run_id
        lab.keep_file(claim.run, "figures/budget.png", b"drawn", tmp_path, kind="figure")
        lab.finish(claim.run)

    monkeypatch.setattr(Client, "submit", submit_and_draw)
    said = part("visualise", source.id, "-o", str(tmp_path / "drawn"))
    assert said.status == 0, said.err
    assert (tmp_path / "drawn" / "figures" / "budget.png").read_bytes() == b"drawn"


# The lab


def test_the_doctor_says_what_is_wrong_what_to_do_and_exits_with_1_if_something_fails(ada, part):
    ada.finish(ada.start())
    said = part("doctor")
    lines = {line.split()[0]: line for line in said.out.splitlines() if line and line[0] != " "}
    assert (said.status, lines["reaper"].split()[1]) == (1, "fail")
    assert "1 worker at work" in lines["workers"]
    assert "every one does it" in said.out, "the advice stands below"
    with writing(ada.engine) as c:
        queue.reap(c, now=database_now(c), lease=LEASE, max_attempts=3)
    assert part("doctor").status == 0
    told = json.loads(part("doctor", "--json").out)
    assert {"database", "broker", "workers", "disk"} <= {f["check"] for f in told["findings"]}


@pytest.mark.usefixtures("ada", "finished")
def test_the_lab_shows_its_queue_workers_and_presets(part):
    assert "CPU slots" in part("queue").out
    assert json.loads(part("queue", "--json").out)["cpu_slots"] == 100
    assert "a test CPU" in part("workers").out
    assert json.loads(part("workers", "--json").out)[0]["name"] == "host-a"
    shown = part("presets").out
    assert "part++" in shown
    assert "51/255" in shown
    assert "small-cnn" in shown
    assert shown.count("torchvision:") == 1
    assert "51 classifiers by name" in shown
    assert "torchvision:resnet50" in json.loads(part("presets", "--json").out)["models"]
    assert "digits" in json.loads(part("presets", "--json").out)["datasets"]
    assert part("version").out.startswith("partlab ")
    assert "version" in json.loads(part("version", "--json").out)


class Typing(io.StringIO):
    """A terminal's keyboard."""

    def isatty(self) -> bool:
        return True


def test_login_stores_what_works_and_nothing_else(lab, part, tmp_path, monkeypatch):
    stored = tmp_path / "config" / "partlab" / "credentials.json"
    secret = tmp_path / "secret"
    secret.write_text("wrong\n")
    refused = part("login", lab.url, "--token-file", str(secret))
    assert refused.status == 3
    assert "part login" in refused.err
    assert not stored.exists()
    secret.write_text(lab.tokens["eve"] + "\n")
    assert "as eve (viewer)" in part("login", lab.url + "/", "--token-file", str(secret)).out
    assert stored.stat().st_mode & 0o777 == 0o600
    who = json.loads(part("whoami", "--json").out)
    assert who == {"name": "eve", "role": "viewer", "url": lab.url, "from": str(stored)}
    assert "eve (viewer)" in part("whoami").out
    monkeypatch.setattr("sys.stdin", io.StringIO(lab.tokens["bob"]))
    assert "as bob" in part("login", lab.url, "--token-file", "-").out
    assert "--token-file" in part("login", lab.url).err, "nobody can type it into a pipe"
    monkeypatch.setattr("sys.stdin", Typing())
    monkeypatch.setattr("rich.prompt.Prompt.ask", lambda *_, **__: lab.tokens["ada"])
    assert "as ada" in part("login", lab.url).out
    monkeypatch.setattr("rich.prompt.Prompt.ask", lambda *_, **__: " ")
    assert "empty" in part("login", lab.url).err
    assert "cannot be read" in part("login", lab.url, "--token-file", str(tmp_path)).err


def test_administrators_issue_list_and_revoke_tokens(ada, part, monkeypatch):
    assert part("admin", "token", "kim").status == 1
    monkeypatch.setenv("PART_TOKEN", ada.tokens["root"])
    said = part("admin", "token", "kim", "--role", "viewer")
    assert "new user kim (viewer)" in said.err
    with Client(ada.url, said.out.strip()) as kim:
        assert kim.me().role == "viewer"
    second = part("admin", "token", "kim", "--label", "laptop")
    assert "keeps the role" in second.err
    assert json.loads(part("admin", "token", "kim", "--json").out)["user"] == "kim"
    assert "laptop" in part("admin", "tokens").out
    every = json.loads(part("admin", "tokens", "--json").out)
    identifier = next(t["id"] for t in every if t["label"] == "laptop")
    assert part("admin", "revoke", identifier).out == f"revoked {identifier}\n"
    monkeypatch.setenv("PART_TOKEN", second.out.strip())
    assert part("whoami").status == 3


# Whatever goes wrong


def test_no_lab_no_token_no_run_have_their_own_status(lab, part, monkeypatch):
    monkeypatch.setenv("PART_URL", "http://127.0.0.1:9")
    said = part("ls")
    assert said.status == 3
    assert "part up" in said.err
    monkeypatch.setenv("PART_URL", lab.url)
    said = part("ls")
    assert said.status == 3
    assert "part login" in said.err
    assert json.loads(part("ls", "--json").err)["code"] == "unauthenticated"
    monkeypatch.setenv("PART_TOKEN", lab.tokens["ada"])
    assert part("show", "0" * 18).status == 2
    assert part("show", "zzzz").status == 2
    assert part("nonsense").status == 2


def test_an_interrupted_follow_leaves_the_run_alone(ada, part, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "follow", interrupted)
    said = part("submit", *SPEC, "--follow")
    assert said.status == 130
    assert "The run goes on" in said.err
    assert ada.url


def test_the_command_is_installed_and_bears_a_closed_pipe(ada):
    submitted(ada)
    script = [sys.executable, "-m", "partlab", "ls"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        script, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    os.close(writer)
    assert done.returncode == 1
    assert done.stderr == ""
    shown = subprocess.run(script, capture_output=True, text=True, timeout=60, check=True)
    assert "queued" in shown.stdout


def test_output_survives_a_stream_without_unicode(ada, finished):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    script = [sys.executable, "-m", "partlab"]
    for arguments in (["metrics", finished.id], ["show", finished.id], ["--help"]):
        done = subprocess.run(
            [*script, *arguments], capture_output=True, env=environment, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
    assert ada.url


@pytest.mark.usefixtures("ada")
def test_weights_are_uploaded_listed_and_named_for_an_evaluation(part, tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(making_weights.file(classes=10))
    said = part("upload", str(file), "--model", "small-cnn", "--name", "theirs")
    assert said.status == 0, said.err
    identifier = re.search(r"uploaded (\w{18})", said.out)[1]
    assert f"part evaluate --checkpoint {identifier}" in said.out
    assert identifier in part("checkpoints").out
    (one,) = [c for c in json.loads(part("checkpoints", "--json").out) if c["id"] == identifier]
    assert (one["name"], one["classes"]) == ("theirs", 10)
    digits = ("--set", "data.dataset=digits")
    said = part("evaluate", "--checkpoint", identifier, *digits, "--suite", "quick", "--json")
    assert json.loads(said.out)["spec"]["source"]["checkpoint"] == identifier


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("which", [(), ("latest", "--checkpoint", "0" * 18)])
def test_an_evaluation_is_of_one_thing(part, which):
    said = part("evaluate", *which)
    assert said.status == 2
    assert "--checkpoint" in said.err


def test_a_run_is_paused_asked_about_and_let_go_on(ada, part):
    run = ada.submit()
    assert "paused" in part("pause", run.id).out
    said = part("why", run.id)
    assert f"part resume {run.id}" in said.out
    assert json.loads(part("why", run.id, "--json").out)["why"] == "paused"
    assert part("resume", run.id, "--json").status == 0
    assert json.loads(part("why", run.id, "--json").out)["why"] != "paused"
    assert part("cancel", run.id).status == 0


@pytest.mark.usefixtures("ada", "finished")
def test_the_ledger_is_a_table_and_csv(part):
    assert "useful h" in part("ledger").out
    lines = part("ledger", "--by", "experiment", "--csv").out.splitlines()
    assert lines[0] == "experiment,kind,attempts,useful_seconds,wasted_seconds"
    assert json.loads(part("ledger", "--by", "week", "--json").out)[0]["attempts"] >= 1
    assert "Nothing has run yet" in part("ledger", "--days", "0").out


def test_administrators_share_the_lab_out(lab, part, monkeypatch):
    monkeypatch.setenv("PART_URL", lab.url)
    monkeypatch.setenv("PART_TOKEN", lab.tokens["root"])
    assert "There is no group" in part("admin", "groups").out
    assert part("admin", "group", "vision", "--share", "2").out == "group vision has share 2\n"
    assert "vision" in part("admin", "groups").out
    said = part("admin", "limit", "bob", "--group", "vision", "--running", "4", "--hours", "40")
    assert said.out.splitlines()[1].split() == ["bob", "member", "vision", "1", "4", "-", "40"]
    freed = part("admin", "limit", "bob", "--group", "none", "--running", "none", "--json")
    assert json.loads(freed.out)["most_running"] is None
    assert part("admin", "limit", "bob", "--hours", "none").status == 0
    assert "Say what to change" in part("admin", "limit", "bob").err
    assert "is no number" in part("admin", "limit", "bob", "--queued", "few").err
    assert "bob" in part("admin", "users").out
    assert json.loads(part("admin", "users", "--json").out)[0]["name"] == "ada"
    assert "nothing more" in part("admin", "drain", "host-a").out
    assert "drained" in part("workers").out
    assert "runs again" in part("admin", "drain", "host-a", "--undo").out
    assert "runs again" in part("admin", "release", "host-a", "cpu:0").out
    assert "is no slot" in part("admin", "release", "host-a", "first").err
    assert part("admin", "release", "host-a", "gpu:9").status == 2


def test_what_a_run_waits_for_is_told_wherever_it_is_shown(ada, part, monkeypatch):
    before = ada.submit(name="baseline")
    said = part("submit", *SPEC, "--set", "resources.gpus=1", "--set", "name=wide")
    gpu = said.out.split()[1]
    assert "no such device: waits for a worker with 1 gpu slot" in said.out
    after = part("submit", *SPEC, "--set", f'after=["{before.id}"]').out
    assert (
        f"waits for {before.id}: waits for run {before.id} (baseline, queued) to succeed" in after
    )
    listed = part("ls").out
    assert "no such device" in listed
    assert f"waits for {before.id}" in listed
    shown = part("show", gpu).out
    assert "no such device" in shown
    assert "waits for a worker with 1 gpu slot" in shown
    assert "a worker with 1 gpu slot" in part("why", gpu).out
    assert part("pause", gpu).out.split() == [gpu, "paused"]
    assert f"part resume {gpu}" in part("why", gpu).out
    monkeypatch.setenv("COLUMNS", "80")
    narrow = part("ls").out
    assert before.id in narrow.replace("\n", " ").split("waits for", 1)[1], "ids are never cut"
    assert max(map(len, narrow.splitlines())) <= 80
    for run_id in (gpu, after.split()[1], before.id):
        part("cancel", run_id)
