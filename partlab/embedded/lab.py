"""Start the parts of a lab in order, look after them, stop them in order."""

import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGKILL, SIGTERM

import httpx

from partlab.client import Client
from partlab.credentials import write_private
from partlab.embedded import parts
from partlab.embedded.children import Child, Program, cut, rotate, tail
from partlab.embedded.state import State
from partlab.errors import ClientError, LabBroken
from partlab.transport import Patience

BROKER_SECONDS, START_SECONDS = 20.0, 90.0
LOOK_SECONDS, LOG_SECONDS = 0.2, 15.0
UVICORN = ("-m", "uvicorn", "api.main:app", "--no-access-log", "--timeout-graceful-shutdown", "3")
CELERY = ("-m", "celery", "--app", "worker.app", "worker")
CELERY_QUIET = ("--loglevel", "info", "--without-gossip", "--without-mingle")
STOP_ORDER = ("api", "worker", "broker")
"""First nothing new comes in; last the broker, as the others speak to it."""


@dataclass(frozen=True)
class Choices:
    """What a person may choose."""

    state: State
    port: int | None = None
    """None: 8700, or the next that is free."""
    data: Path | None = None
    """Data root; None: `data` in the state folder."""
    cpu_slots: int | None = None
    """Runs at a time on the CPU; None leaves it to the worker."""


@dataclass
class EmbeddedLab:
    """A lab that runs: its address and its children."""

    choices: Choices
    tell: Callable[[str], None]
    """Hears of each step and each restart."""
    url: str = ""
    children: list[Child] = field(default_factory=list)
    stopping: bool = False
    hurried: bool = False
    _secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    _broker_port: int = 0

    @property
    def state(self) -> State:
        """Its folder."""
        return self.choices.state

    @property
    def data(self) -> Path:
        """Its data root."""
        return self.choices.data or self.state.folder / "data"

    def ask_to_stop(self) -> None:
        """Stop; asked twice, without grace. May be called from a signal handler."""
        self.hurried = self.stopping
        self.stopping = True

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start everything; stop everything at the end, whatever happens.

        Raises LabBusy, LabBroken.
        """
        parts.require_extras()
        parts.require_own_packages()
        broker = parts.broker_program()
        self.state.create()
        with ExitStack() as stack:
            stack.enter_context(self.state.held())
            listener = stack.enter_context(parts.listen(self.choices.port))
            stack.callback(self._stop)
            self.data.mkdir(parents=True, exist_ok=True)
            self.url = f"http://{parts.HOST}:{listener.getsockname()[1]}"
            self._start_broker(broker)
            self._prepare_database()
            self._start_api(listener)
            self._start_worker()
            stack.enter_context(self.state.announced(self.url, self._broker_url))
            yield

    def look_after(self) -> None:
        """Restart what dies, until somebody asks the lab to stop."""
        looked_at_logs = time.monotonic()
        while not self.stopping:
            time.sleep(LOOK_SECONDS)
            self.look_once()
            if time.monotonic() - looked_at_logs > LOG_SECONDS:
                looked_at_logs = time.monotonic()
                for child in self.children:
                    cut(child.log)

    def look_once(self) -> None:
        """Restart what is dead and has waited long enough."""
        for child in self.children:
            if news := child.look_after():
                self.tell(news)

    def _stop(self) -> None:
        for child in sorted(self.children, key=lambda c: STOP_ORDER.index(c.program.name)):
            child.stop(at_once=lambda: self.hurried)

    @property
    def _broker_url(self) -> str:
        return f"redis://:{self._secret}@{parts.HOST}:{self._broker_port}/0"

    def _environment(self) -> dict[str, str]:
        own = {
            "PARTLAB_STATE": str(self.state.folder),
            "PARTLAB_DATA": str(self.data),
            "PARTLAB_STOP_SECONDS": "20",
            "PARTLAB_BROKER_URL": self._broker_url,
        }
        if self.choices.cpu_slots is not None:
            own["PARTLAB_CPU_SLOTS"] = str(self.choices.cpu_slots)
        return parts.child_environment(own)

    def _start_broker(self, program: str) -> None:
        self.tell("starting the broker")
        self._broker_port = parts.free_port()
        config = self.state.broker / "broker.conf"
        text = parts.broker_config(self._broker_port, self._secret, self.state.broker)
        write_private(config, text)
        child = self._child(
            Program("broker", (program, str(config)), grace=10, orphan_signal=SIGTERM)
        )
        ready = lambda: parts.broker_answers(self._broker_port, self._secret)  # noqa: E731
        self._await(child, ready, BROKER_SECONDS)

    def _prepare_database(self) -> None:
        self.tell("preparing the database")
        self._run("migrations", "upgrade")
        self._run("store.bootstrap", "--token-file", str(self.state.token_file))

    def _run(self, module: str, *arguments: str) -> None:
        log = self.state.logs / f"{module.partition('.')[2] or module}.log"
        rotate(log)
        command = [sys.executable, "-m", module, *arguments]
        if (status := self._status_of(command, log)) != 0:
            raise LabBroken(
                f"`python -m {module}` failed ({status}):\n{tail(log)}\nThe whole log: {log}"
            )

    def _status_of(self, command: list[str], log: Path) -> int:
        """Run to the end and return the exit status; a program that hangs counts as killed."""
        with log.open("ab") as stream:
            try:
                return subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    cwd=self.state.folder,
                    env=self._environment(),
                    timeout=START_SECONDS,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                return -SIGKILL

    def _start_api(self, listener: socket.socket) -> None:
        self.tell("starting the API")
        number = listener.fileno()
        command = (sys.executable, *UVICORN, "--fd", str(number))
        child = self._child(Program("api", command, grace=8, descriptors=(number,)))
        self._await(child, self._is_ready, START_SECONDS)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def _start_worker(self) -> None:
        self.tell("starting the worker")
        since = datetime.now(UTC)
        command = (sys.executable, *CELERY, *CELERY_QUIET)
        child = self._child(Program("worker", command, grace=25))
        token = self.state.token_file.read_text().strip()
        with Client(self.url, token, patience=Patience(attempts=1)) as client:
            self._await(child, lambda: _has_worker(client, since), START_SECONDS)

    def _child(self, program: Program) -> Child:
        child = Child(program, self.state.folder, self._environment(), self.state.logs)
        rotate(child.log)
        child.start()
        self.children.append(child)
        return child

    def _await(self, child: Child, is_ready: Callable[[], bool], seconds: float) -> None:
        """Wait for a child to be ready.

        Raises LabBroken if it ends, or takes too long, KeyboardInterrupt if the lab is to stop.
        """
        deadline = time.monotonic() + seconds
        name = child.program.title
        while not is_ready():
            if self.stopping:
                raise KeyboardInterrupt
            if not child.is_alive:
                raise LabBroken(f"The {name} {child.how_it_ended()}:\n{tail(child.log)}")
            if time.monotonic() > deadline:
                raise LabBroken(f"The {name} is not ready after {seconds:g} s; see {child.log}")
            time.sleep(0.1)


def _has_worker(client: Client, since: datetime) -> bool:
    try:
        return any(worker.seen_at >= since for worker in client.workers())
    except ClientError:
        return False
