"""`part up` as a person meets it: it starts, answers, heals, refuses a second one, and goes."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from domain.run_state import RunState
from partlab.client import Client
from partlab.errors import Unreachable
from partlab.transport import Patience
from tests.waiting import until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("embedded-lab")]
PART = [sys.executable, "-P", "-m", "partlab"]
SHORT = {
    "preset": "part",
    "data": {"dataset": "digits", "train_limit": 100, "test_limit": 40},
    "training": {"epochs": 2},
    "method": {"attack": {"steps": 2}},
    "evaluation": {"attacks": [{"kind": "pgd", "steps": 2}]},
}


@dataclass
class Up:
    """A running `part up`."""

    process: subprocess.Popen[str]
    state: Path
    places: dict[str, str]

    @property
    def token(self) -> str:
        """The administrator's token."""
        return Path(self.places["token_file"]).read_text().strip()

    def client(self) -> Client:
        """A client of the lab."""
        return Client(self.places["url"], self.token)

    def parts(self) -> dict[str, psutil.Process]:
        """The lab's children by what they run."""
        names = {"valkey": "broker", "uvicorn": "api", "celery": "worker"}
        found = {}
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):
                line = " ".join(child.cmdline())
                found |= {part: child for word, part in names.items() if word in line}
        return found

    def words(self) -> list[str]:
        """The command lines of every process below it, but for those that are ending."""
        found: list[str] = []
        for process in self.family():
            with suppress(psutil.Error):
                found += process.cmdline()
        return found

    def family(self) -> list[psutil.Process]:
        """Every process below it, the trainings included."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, number: signal.Signals) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


@contextmanager
def up(folder: Path, *options: str) -> Iterator[Up]:
    """`part up` on ``folder``/state, ready; killed at the end if it still runs."""
    state = folder / "state"
    environment = {
        **os.environ,
        "PARTLAB_STATE": str(state),
        "XDG_STATE_HOME": str(folder / "notes"),
        "PARTLAB_POLL_SECONDS": "0.5",
        "PARTLAB_THREADS": "1",
        # A shared lab's settings in the shell must not matter to an embedded one.
        "PARTLAB_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:9/production",
    }
    with (folder / "up.log").open("w") as log:
        process = subprocess.Popen(
            [*PART, "up", "--json", *options],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, (folder / "up.log").read_text()
        yield Up(process, state, json.loads(line))
    finally:
        process.kill()
        process.wait(timeout=30)
        process.stdout.close()


def all_gone(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@pytest.fixture
def decoys(tmp_path: Path) -> Path:
    """A folder whose packages have the lab's names and must not be imported."""
    for name in ("api", "worker", "store", "migrations", "domain", "web", "celery", "uvicorn"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('a decoy was imported')")
    return tmp_path


def test_a_lab_starts_works_heals_and_goes(decoys: Path):
    with up(decoys) as lab, lab.client() as client:
        assert client.me().role == "admin"
        assert Path(lab.places["token_file"]).stat().st_mode & 0o777 == 0o600
        assert lab.state.stat().st_mode & 0o777 == 0o700
        assert not any("PARTLAB" in word for word in lab.words())
        second_is_told(lab, decoys)
        dead_parts_are_started_again(lab, client)
        run = client.wait(client.submit(SHORT).id, timeout=120)
        assert run.state == RunState.SUCCEEDED
        its_figures_come_out_again(lab, run.id)
        family, port = lab.family(), port_of(client.url)
        assert lab.stop(signal.SIGTERM) == 0
        until(lambda: all_gone(family), seconds=5)
        assert refuses(port)
        assert not (lab.state / "lab.json").exists()
    log = (decoys / "up.log").read_text()
    assert "decoy" not in log
    assert log.endswith("stopped\n")


def second_is_told(lab: Up, folder: Path) -> None:
    second = subprocess.run(
        [*PART, "up", "--state", str(lab.state)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 1
    assert lab.places["url"] in second.stderr
    assert str(lab.process.pid) in second.stderr


def dead_parts_are_started_again(lab: Up, client: Client) -> None:
    before = lab.parts()
    assert set(before) == {"broker", "api", "worker"}
    for process in before.values():
        process.kill()
    # The port is held by `part up` itself: this request waits for the new API, and is answered.
    assert client.me().name == "admin"
    until(lambda: set(lab.parts()) == set(before))
    assert {p.pid for p in lab.parts().values()}.isdisjoint(p.pid for p in before.values())
    until(lambda: "the worker was started again" in (lab.state.parent / "up.log").read_text())


def its_figures_come_out_again(lab: Up, run_id: str) -> None:
    told = subprocess.run(
        [*PART, "certify", run_id, "--json"],
        env={**os.environ, "PARTLAB_STATE": str(lab.state)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    rows = json.loads(told.stdout)["rows"]
    assert [row["label"] for row in rows] == ["clean", "pgd-2", "worst-case"]
    assert {row["outcome"] for row in rows} == {"same image by image"}


def test_a_stopped_lab_goes_on_with_its_runs(tmp_path: Path):
    long = {**SHORT, "training": {"epochs": 400, "validate_every": 400}}
    with up(tmp_path) as lab, lab.client() as client:
        run = client.submit(long)
        until(lambda: (client.get(run.id).progress or {}).get("phase") == "train")
        family = lab.family()
        assert lab.stop(signal.SIGINT) == 0
        until(lambda: all_gone(family), seconds=5)
    with up(tmp_path) as lab, lab.client() as client:
        until(lambda: client.get(run.id).attempt == 2)
        assert client.cancel(run.id).state in {RunState.CANCELLING, RunState.CANCELLED}
        assert client.wait(run.id, timeout=60).state == RunState.CANCELLED


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's service")
def test_a_killed_lab_leaves_no_orphan_and_starts_again(tmp_path: Path):
    with up(tmp_path) as lab, lab.client() as client:
        run = client.submit({**SHORT, "training": {"epochs": 400, "validate_every": 400}})
        until(lambda: (client.get(run.id).progress or {}).get("phase") == "train")
        family, port = lab.family(), port_of(client.url)
        assert len(family) >= 4
        lab.process.kill()
        until(lambda: all_gone(family), seconds=15)
        assert refuses(port)
    with up(tmp_path) as lab, lab.client() as client:
        assert client.get(run.id).id == run.id


def test_a_taken_port_is_told_and_the_default_gives_way(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*PART, "up", "--state", str(tmp_path / "s"), "--port", str(port)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert f"Port {port} is taken" in done.stderr
    assert "Traceback" not in done.stderr
    with (
        pytest.raises(Unreachable),
        Client(f"http://127.0.0.1:{port}", patience=Patience(attempts=1)) as nobody,
    ):
        nobody.me()


def test_a_part_that_does_not_start_is_told_with_its_last_words(tmp_path: Path):
    state = tmp_path / "state"
    state.mkdir()
    (state / "lab.sqlite3").write_text("this is no database at all, is it?" * 100)
    done = subprocess.run(
        [*PART, "up", "--state", str(state)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "python -m migrations" in done.stderr
    assert "not a database" in done.stderr
    assert not (state / "lab.json").exists()
