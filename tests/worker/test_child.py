"""The child's leash, its command line and what it says, without training anything."""

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from domain.control import Renew, Stop, TakeCheckpoint, write_line
from domain.events import ArtifactSaved, Log, Progress, Started, read_frames
from worker import child
from worker.exits import EXIT_EXPIRED, EXIT_FAILED, EXIT_ORPHANED, describe_exit
from worker.outbox import MOST, Outbox, take_away
from worker.process import Assignment, Child, attempt_environment, common_environment

LEASHED = """
import os, sys, time
from worker.leash import Leash, die_with_parent
leash = Leash(os.fdopen(int(sys.argv[1]), "rb"), float(sys.argv[2]))
leash.attach()
print("attached", flush=True)
while not leash.stopped.is_set():
    if leash.checkpoint_requested():
        print("checkpoint", flush=True)
    time.sleep(0.01)
"""
DYING = """
import subprocess, sys
code = "import sys, time; from worker.leash import die_with_parent; die_with_parent(); "
code += "print('armed', flush=True); time.sleep(600)"
command = [sys.executable, "-c", code]
child = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
"""


@contextmanager
def leashed(seconds, attached=b"attached\n"):
    """A process on a leash; yields it and our end of its control pipe."""
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", LEASHED, str(read), str(time.monotonic() + seconds)],
        pass_fds=(read,),
        stdout=subprocess.PIPE,
    )
    os.close(read)
    with os.fdopen(write, "wb", buffering=0) as control, process:
        assert process.stdout.readline().startswith(attached)
        yield process, control
        process.kill()


def test_a_child_ends_when_its_supervisor_is_gone():
    with leashed(60) as (process, control):
        control.close()
        assert process.wait(timeout=5) == EXIT_ORPHANED


def test_a_child_ends_when_its_lease_is_not_renewed():
    with leashed(5) as (process, _):
        assert process.wait(timeout=15) == EXIT_EXPIRED


def test_a_renewal_that_is_heard_too_late_prolongs_nothing():
    """A child that was frozen finds old lines in its pipe: their time has passed for it too."""
    with leashed(60) as (process, control):
        control.write(write_line(Renew(deadline=time.monotonic() - 0.1)))
        assert process.wait(timeout=5) == EXIT_EXPIRED


def test_a_lease_that_ran_out_while_the_interpreter_started_is_over():
    with leashed(-1, attached=b"") as (process, _):
        assert process.wait(timeout=5) == EXIT_EXPIRED


def test_a_renewed_child_lives_on_and_hears_what_it_is_told():
    with leashed(60) as (process, control):
        for _ in range(4):
            control.write(write_line(Renew(deadline=time.monotonic() + 1)))
            time.sleep(0.4)
        assert process.poll() is None
        control.write(write_line(TakeCheckpoint()))
        assert process.stdout.readline() == b"checkpoint\n"
        control.write(write_line(Stop()))
        assert process.wait(timeout=5) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="a service of Linux")
def test_a_frozen_child_dies_with_its_parent():
    parent = subprocess.Popen(
        [sys.executable, "-c", DYING], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with parent:
        pid = int(parent.stdout.readline())
        os.kill(pid, signal.SIGSTOP)
        parent.kill()
    end = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_command_line_says_everything_back(tmp_path):
    told = Assignment(
        spec=tmp_path / "spec.json",
        work=tmp_path,
        data_root=tmp_path / "data",
        device="cuda",
        threads=3,
        lease=4.5,
        resume=True,
        source=tmp_path / "source.safetensors",
        surrogates=tmp_path / "surrogates",
        ranks=2,
    )
    heard = child.parse([*told.arguments(), "--events", "7", "--control", "8"])
    names = ("spec", "work", "data_root", "device", "threads", "lease", "ranks", "resume", "source")
    names += ("surrogates",)
    assert [getattr(heard, n) for n in names] == [getattr(told, n) for n in names]
    assert (heard.events, heard.control) == (7, 8)


def test_progress_is_throttled_but_no_change_of_phase_is_lost():
    throttle = child.Throttle()

    def at(phase, done, detail=None):
        return Progress(phase=phase, done=done, total=9, unit="step", detail=detail)

    told = [at("train", 1), at("train", 2), at("validate", 1), at("validate", 2)]
    told += [at("evaluate", 1, "fgsm"), at("evaluate", 2, "fgsm"), at("evaluate", 1, "pgd-20")]
    passed = [event for event in told if throttle.passes(event)]
    assert [(e.phase, e.done, e.detail) for e in passed] == [
        ("train", 1, None),
        ("validate", 1, None),
        ("evaluate", 1, "fgsm"),
        ("evaluate", 1, "pgd-20"),
    ]
    assert all(throttle.passes(Log(message="x")) for _ in range(3))


@pytest.mark.parametrize(
    ("error", "failure_class"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk-full"),
        (OSError(errno.EACCES, "Permission denied"), "code"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 4 bytes"), "out-of-memory"),
        (ZeroDivisionError("division by zero"), "code"),
    ],
)
def test_an_unexpected_error_is_named(error, failure_class):
    failed = child.unexpected(error)
    assert failed.failure_class == failure_class
    assert str(error) in failed.message
    assert (failed.traceback is not None) == (failure_class == "code")


def test_an_error_in_the_experiment_reaches_the_supervisor(tmp_path):
    """The real entry, a spec it cannot read: one frame, and the status that says so."""
    spec = tmp_path / "spec.json"
    spec.write_text("{}")
    lease = time.monotonic() + 60
    told = Assignment(spec, tmp_path, tmp_path, "cpu", threads=1, lease=lease)
    started = Child.start(told, folder=tmp_path, visible_gpus="")
    (failed,) = list(read_frames(started.events))
    assert started.end(patience=10) == EXIT_FAILED
    assert (failed.failure_class, failed.code) == ("code", "unexpected")
    assert "ValidationError" in failed.traceback
    assert started.over
    started.signal(signal.SIGKILL)
    started.tell(Stop())


def test_a_frozen_child_never_blocks_who_tells_it_something(tmp_path):
    told = Assignment(tmp_path, tmp_path, tmp_path, "cpu", threads=1, lease=60)
    sleeper = tmp_path / "sleeper.py"
    sleeper.write_text("import time; time.sleep(600)")
    started = Child.start(told, folder=tmp_path, visible_gpus="", entry=(str(sleeper),))
    for _ in range(4000):
        started.tell(Renew(deadline=time.monotonic() + 1))
    started.signal(signal.SIGKILL)
    assert started.end(patience=1) == -signal.SIGKILL


def test_the_environment_binds_threads_and_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv("PARTLAB_DATABASE_URL", "postgresql://somebody:secret@db/lab")
    told = Assignment(tmp_path, tmp_path, tmp_path, "cpu", threads=3, lease=60)
    given = common_environment(told.threads) | attempt_environment(told, "1")
    assert given["OMP_NUM_THREADS"] == given["MKL_NUM_THREADS"] == "3"
    assert given["CUDA_VISIBLE_DEVICES"] == "1"
    assert given["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID", "the order of nvidia-smi, which named it"
    assert not any("secret" in value for value in given.values()), "no URL, no token"


@pytest.mark.parametrize(
    ("status", "told"),
    [(0, "status 0"), (-9, "SIGKILL"), (-15, "SIGTERM"), (-99, "signal 99")],
)
def test_an_exit_is_told_in_words(status, told):
    assert told in describe_exit(status)


def artifact(file):
    return ArtifactSaved(
        file=file, name=file, kind="table", media_type="text/csv", sha256="0" * 64, size=1
    )


def test_a_file_handed_over_is_not_what_is_written_next(tmp_path):
    outbox = Outbox(tmp_path)
    (tmp_path / "a.csv").write_text("first")
    event = outbox.hand_over(artifact("a.csv"))
    (tmp_path / "new").write_text("second")
    (tmp_path / "new").replace(tmp_path / "a.csv")
    assert (tmp_path / event.file).read_text() == "first"
    assert event.name == "a.csv"
    take_away(tmp_path / event.file)
    take_away(tmp_path / "a.csv")
    assert not (tmp_path / event.file).exists()
    assert (tmp_path / "a.csv").read_text() == "second"
    assert outbox.hand_over(Started(facts={})) == Started(facts={})


def test_a_file_system_without_hard_links_is_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a.csv").write_text("first")
    assert (tmp_path / Outbox(tmp_path).hand_over(artifact("a.csv")).file).read_text() == "first"


def test_the_child_waits_for_a_recorder_that_is_behind(tmp_path, monkeypatch):
    outbox = Outbox(tmp_path)
    (tmp_path / "a.csv").write_text("first")
    sent = [outbox.hand_over(artifact("a.csv")) for _ in range(MOST)]
    waits = []

    def take_one(seconds):
        waits.append(seconds)
        take_away(tmp_path / sent.pop(0).file)

    monkeypatch.setattr("worker.outbox.time.sleep", take_one)
    outbox.hand_over(artifact("a.csv"))
    assert len(waits) == 1
