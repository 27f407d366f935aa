import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from partlab.embedded.children import Child, Program, cut, describe_exit, rotate, tail
from tests.waiting import until

SLEEP = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
FAMILY = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {STUBBORN!r}]); {SLEEP}"


def child(folder: Path, script: str, *, grace: float = 10, clock=time.monotonic) -> Child:
    program = Program("part", (sys.executable, "-c", script), grace=grace)
    return Child(program, folder, dict(os.environ), folder, clock=clock)


def never() -> bool:
    return False


def is_gone(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def test_a_child_runs_in_a_session_of_its_own_and_logs(tmp_path):
    one = child(tmp_path, SLEEP)
    assert not one.is_alive
    one.start()
    until(lambda: "up" in tail(one.log))
    assert one.process is not None
    assert os.getsid(one.process.pid) == one.process.pid
    assert one.look_after() is None
    assert one.how_it_ended() == "is running"
    one.stop(at_once=never)
    one.stop(at_once=never)
    assert not one.is_alive


@pytest.mark.parametrize("script", [STUBBORN, FAMILY])
def test_stopping_leaves_nobody_of_the_group(tmp_path, script):
    one = child(tmp_path, script, grace=0.3)
    one.start()
    until(lambda: "up" in tail(one.log))
    assert one.process is not None
    family = [one.process.pid, *(p.pid for p in psutil.Process(one.process.pid).children())]
    one.stop(at_once=never)
    until(lambda: all(is_gone(pid) for pid in family))


def test_a_second_wish_ends_the_grace(tmp_path):
    one = child(tmp_path, STUBBORN, grace=600)
    one.start()
    until(lambda: "up" in tail(one.log))
    one.stop(at_once=lambda: True)
    assert not one.is_alive


def test_a_dead_child_is_started_again_after_longer_and_longer_pauses(tmp_path):
    now = 100.0
    one = child(tmp_path, "raise SystemExit(3)", clock=lambda: now)
    one.start()
    for pause in (0.5, 1, 2, 4, 8, 16, 30, 30):
        until(lambda: not one.is_alive)
        told = one.look_after()
        assert told is not None
        assert f"ended with status 3; it starts again in {pause:g} s" in told
        assert one.look_after() is None
        now += pause
        assert one.look_after() == "the part was started again"
    now += 100
    until(lambda: not one.is_alive)
    assert "in 0.5 s" in str(one.look_after())


def test_the_way_a_process_ended_is_said():
    assert describe_exit(-9) == "was killed by SIGKILL"
    assert describe_exit(-200) == "ended with status -200"
    assert describe_exit(0) == "ended with status 0"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's service")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_ends_with_a_parent_that_is_killed(tmp_path, number):
    script = (
        "import os, sys, time; from pathlib import Path; from signal import Signals\n"
        "from partlab.embedded.children import Child, Program\n"
        f"program = Program('part', (sys.executable, '-c', {SLEEP!r}), 1, Signals({int(number)}))\n"
        f"one = Child(program, Path({str(tmp_path)!r}), os.environ, Path({str(tmp_path)!r}))\n"
        "one.start(); print(one.process.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    until(lambda: "up" in tail(tmp_path / "part.log"))
    parent.kill()
    parent.wait(timeout=10)
    parent.stdout.close()
    until(lambda: is_gone(pid))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's service")
def test_a_child_whose_parent_is_gone_already_does_not_start():
    bound = Path(sys.modules["partlab.embedded.children"].__file__ or "").with_name("bound.py")
    echo = [sys.executable, "-c", "print('started')"]
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(bound), "9", "1", *echo],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")


def test_logs_are_rotated_cut_and_read_from_the_end(tmp_path):
    log = tmp_path / "part.log"
    assert tail(log) == ""
    for number in range(6):
        rotate(log)
        log.write_text(f"{number}\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "part.log", "part.log.1", "part.log.2", "part.log.3"
    ]  # fmt: skip
    assert (tmp_path / "part.log.3").read_text() == "2\n"
    with log.open("ab") as writer:
        writer.write(b"x" * 90 + b"\nlast\n")
        writer.flush()
        cut(log, longest=1000)
        assert log.stat().st_size == 98
        cut(log, longest=20)
        assert log.stat().st_size == 10
        writer.write(b"more\n")
    assert log.read_bytes() == b"xxxx\nlast\nmore\n"
    assert tail(log, lines=2) == "last\nmore"
    cut(tmp_path / "absent.log")
