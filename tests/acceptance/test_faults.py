"""The whole lab, over HTTP, while its parts are killed and its broker is emptied."""

import re
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import redis

from domain.run_state import RunState
from partlab.client import Client
from tests.acceptance.test_lab import Up, up
from tests.waiting import until

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.xdist_group("embedded-lab"),
    pytest.mark.timeout(600),
]
MOMENT = {
    "preset": "standard",
    "data": {"dataset": "digits", "train_limit": 64, "test_limit": 16},
    "training": {"epochs": 1},
    "evaluation": {"attacks": [{"kind": "fgsm"}]},
}
WHILE = {
    "preset": "part++",
    "data": {"dataset": "digits", "train_limit": 256, "test_limit": 64},
    "training": {"epochs": 16, "batch_size": 64},
    "method": {"attack": {"steps": 4}},
    "evaluation": {"attacks": [{"kind": "pgd", "steps": 4}]},
}


def empty_the_broker(lab: Up) -> None:
    config = (lab.state / "broker" / "broker.conf").read_text()
    port = re.search(r"^port (\d+)$", config, re.MULTILINE)
    secret = re.search(r"^requirepass (\S+)$", config, re.MULTILINE)
    assert port is not None
    assert secret is not None
    with redis.Redis(port=int(port[1]), password=secret[1]) as client:
        client.flushall()
        assert client.dbsize() == 0


def trained(client: Client, run_id: str) -> int:
    """Optimiser steps done, as the lab tells."""
    progress = client.get(run_id).progress or {}
    return int(progress["done"]) if progress.get("phase") == "train" else 0


def targets(client: Client, run_id: str) -> list[RunState]:
    return [event.target for event in client.events(run_id)]


def weights(client: Client, run_id: str) -> str:
    (file,) = [file for file in client.artifacts(run_id) if file.kind == "weights"]
    return file.sha256


def child_of(lab: Up, run_id: str) -> psutil.Process:
    (child,) = [process for process in lab.family() if run_id in attempt_of(process)]
    return child


def attempt_of(process: psutil.Process) -> str:
    """The work folder of a training process; one that was kept ready has a link to it."""
    with suppress(psutil.Error):
        mark = Path(process.environ().get("ATTEMPT_WORK", ""))
        return str(mark.readlink() if mark.is_symlink() else mark)
    return ""


def test_an_emptied_broker_loses_no_run_and_doubles_none(tmp_path: Path):
    """Ten runs are queued and two run when the broker is flushed."""
    with up(tmp_path, "--cpu-slots", "2") as lab, lab.client() as client:
        running = [client.submit({**MOMENT, "training": {"epochs": 40}}).id for _ in range(2)]
        until(lambda: {client.get(run_id).state for run_id in running} == {RunState.RUNNING})
        queued = [client.submit(MOMENT).id for _ in range(10)]
        assert client.queue().queued == 10
        assert {client.get(run_id).state for run_id in running} == {RunState.RUNNING}
        empty_the_broker(lab)
        for run_id in (*running, *queued):
            assert client.wait(run_id, timeout=300).state == RunState.SUCCEEDED
            assert targets(client, run_id) == ["queued", "running", "succeeded"]


def test_whatever_is_killed_a_run_ends_once_and_in_the_same_bits(tmp_path: Path):
    with up(tmp_path, "--cpu-slots", "1") as lab, lab.client() as client:
        undisturbed = client.submit(WHILE).id
        assert client.wait(undisturbed, timeout=200).state == RunState.SUCCEEDED
        run_id = client.submit(WHILE).id
        until(lambda: trained(client, run_id) >= 8)
        child_of(lab, run_id).kill()
        until(lambda: client.get(run_id).attempt == 2)
        until(lambda: trained(client, run_id) >= 16)
        for name in ("api", "worker"):
            lab.parts()[name].kill()
        until(lambda: client.get(run_id).attempt == 3)
        row = client.wait(run_id, timeout=200)
        assert (row.state, row.attempt) == (RunState.SUCCEEDED, 3)
        assert targets(client, run_id).count(RunState.SUCCEEDED) == 1
        assert weights(client, run_id) == weights(client, undisturbed)
        for name in ("train/loss", "val/robust_accuracy"):
            assert client.history(run_id, [name]) == client.history(undisturbed, [name])
