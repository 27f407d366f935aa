"""What a worker tells of its host, and does when it cannot keep anything."""

import socket
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from domain.run_state import RunState
from store import checkup
from store.blobs import Blobs
from store.engine import database_now, reading
from tests.waiting import until
from tests.worker.lab import ended, look
from tests.worker.test_orphans import register, sleeper
from tests.worker.test_supervision import odd, odd_worker
from worker import gpus


def seen(engine):
    """The hosts, as `part doctor` sees them."""
    with reading(engine) as connection:
        return checkup.hosts(connection, database_now(connection))


@pytest.mark.parametrize("at", ["{}", "memory://{}"])
def test_two_who_see_one_store_read_one_word(tmp_path, at):
    first, second = (Blobs(at.format(tmp_path / "a")) for _ in range(2))
    assert first.try_out() == second.identity() != Blobs(at.format(tmp_path / "b")).try_out()
    left = [Path(name).name for name in first._fs.ls(first._root, detail=False)]
    assert left == [".partlab-store"]


def test_a_worker_that_can_keep_nothing_begins_nothing_and_says_why(sqlite_engine, tmp_path):
    store = tmp_path / "artifacts"
    store.write_text("a file where a folder should be")
    with odd_worker(sqlite_engine, tmp_path):
        run_id = odd(sqlite_engine, "obedient")
        until(lambda: seen(sqlite_engine) and seen(sqlite_engine)[0].store)
        assert "Error" in seen(sqlite_engine)[0].store.error
        assert look(sqlite_engine, run_id).state is RunState.QUEUED
        store.unlink()
        row = ended(sqlite_engine, run_id)
        assert (row.state, row.attempt) == (RunState.SUCCEEDED, 1)
        until(lambda: seen(sqlite_engine)[0].store.error == "")


def test_a_second_worker_of_a_name_is_told_to_the_lab(sqlite_engine, tmp_path):
    with sleeper() as first:
        register(sqlite_engine, host=socket.gethostname(), pid=first.pid)
        with odd_worker(sqlite_engine, tmp_path, lease_seconds=300):
            until(lambda: seen(sqlite_engine)[0].rival == socket.gethostname())


CUDA_13 = "__version__ = '2.15.0+cu132'\ncuda: Optional[str] = '13.2'\n"


@pytest.mark.parametrize(
    ("driver", "version", "told"),
    [
        ("535.54.03", CUDA_13, "535.54.03 is too old for CUDA 13.2 of PyTorch, which needs 580.65"),
        ("580.65.06", CUDA_13, ""),
        ("595.10", CUDA_13, ""),
        ("450.36", "cuda: Optional[str] = '11.8'\n", "which needs 450.80"),
        ("535.54.03", "cuda: Optional[str] = None\n", ""),
        ("535.54.03", "cuda: Optional[str] = '99.1'\n", ""),
        (None, CUDA_13, ""),
    ],
)
def test_a_driver_too_old_is_named(monkeypatch, tmp_path, driver, version, told):
    (tmp_path / "version.py").write_text(version)
    spec = ModuleSpec("torch", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(gpus, "_asked", lambda _: [driver] if driver else [])
    assert told in gpus.driver_error(lambda _: spec)
    assert bool(gpus.driver_error(lambda _: spec)) is bool(told)
    assert gpus.driver_error(lambda _: None) == ""


def test_the_installed_pytorch_says_its_cuda():
    from importlib.util import find_spec

    import torch

    assert gpus._cuda(find_spec("torch")) == (torch.version.cuda or "")
    assert Path(torch.__file__).with_name("version.py").is_file()
