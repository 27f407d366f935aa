"""Real brokers and real `celery worker` processes for tests."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import redis
from sqlalchemy import Engine

from partlab.embedded.parts import broker_config, broker_program, free_port
from tests.waiting import until

CELERY = ("-m", "celery", "--app", "worker.app", "worker")
QUIET = ("--loglevel", "info", "--without-gossip", "--without-mingle")


class Broker:
    """A Valkey of one's own, which may be stopped and started again on its port."""

    def __init__(self, folder: Path) -> None:
        """Keep its files in ``folder``."""
        port, secret = free_port(), secrets.token_hex(8)
        self._config = folder / "broker.conf"
        self._config.write_text(broker_config(port, secret, folder))
        self.url = f"redis://:{secret}@127.0.0.1:{port}/0"
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [broker_program(), str(self._config)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until(lambda: answers(self.url), seconds=15)

    def stop(self) -> None:
        """End it, also one that hangs."""
        self.process.kill()
        self.process.wait(timeout=10)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """A broker of one's own; yields its URL."""
    with Broker(folder) as made:
        yield made.url


def answers(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


@dataclass
class WorkerProcess:
    """A `celery worker` and its log."""

    process: subprocess.Popen[bytes]
    log: Path

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self, *, seconds: float = 20) -> float:
        """Stop it as an operator would; return how long it took."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=seconds)
        return time.monotonic() - started


@contextmanager
def celery_worker(engine: Engine, state: Path, **over: object) -> Iterator[WorkerProcess]:
    """A worker process with short leases; killed at the end if it still lives."""
    values: dict[str, object] = {
        "state": state,
        "database_url": engine.url.render_as_string(hide_password=False),
        "worker_name": "celery",
        "gpu_slots": 0,
        "threads": 1,
        "standby": 0,
        "poll_seconds": 0.3,
        "lease_seconds": 4,
        "renew_seconds": 0.5,
        "stop_seconds": 10,
        **over,
    }
    told = {f"PARTLAB_{name.upper()}": str(value) for name, value in values.items()}
    state.mkdir(parents=True, exist_ok=True)
    log = state / f"{values['worker_name']}.log"
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, *CELERY, *QUIET],
            env={**os.environ, **told, "PYTHONSAFEPATH": "1"},
            cwd=state,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    worker = WorkerProcess(process, log)
    try:
        yield worker
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait(timeout=10)
