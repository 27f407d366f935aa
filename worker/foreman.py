"""The loop of a worker: wake, reap, claim, supervise."""

import contextlib
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Collection, Mapping

import psutil
from sqlalchemy.exc import SQLAlchemyError

from domain.errors import InvalidTransition
from store import fleet, queue
from store.blobs import Blobs
from store.engine import clock_skew, database_now, make_engine, reading, writing
from store.rows import Claim, Vitals
from worker import gpus, orphans
from worker.database import cause, is_outage
from worker.datasets import datasets
from worker.process import ENTRY
from worker.reaper import is_taken, left_behind, reap, recover, sign_off
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor

log = logging.getLogger(__name__)


GPU_SECONDS = 10.0
"""How often to look who else uses the GPUs."""
VITALS_SECONDS = 30.0
"""How often to look at the host's clock, disk and processes."""


class NameTaken(Exception):
    """Another worker of that name is at work."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"another worker named {name} is at work; this one starts when it has ended. "
            "Set PARTLAB_WORKER_NAME to run both."
        )


class Foreman(threading.Thread):
    """Claims runs for this host's slots. Messages only wake it up; it polls as well."""

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        wake: threading.Event,
        entry: tuple[str, ...] = ENTRY,
    ) -> None:
        super().__init__(name="foreman", daemon=True)
        self._settings = settings
        self._wake = wake
        self._entry = entry
        self._offered = settings.slots()
        # A supervisor records and renews at the same time; one is the foreman's, one is spare.
        self._engine = make_engine(settings.database, pool_size=2 * len(self._offered) + 2)
        self._blobs = Blobs(settings.artifacts)
        self._stopping = threading.Event()
        self._supervisors: dict[int, Supervisor] = {}
        self._has_gpus, self._look_at_gpus, self._look_at_host = False, 0.0, 0.0

    def run(self) -> None:
        """Work until :meth:`stop`."""
        turn = self._begin
        while not self._stopping.is_set():
            try:
                turn()
                turn = self._turn
            except NameTaken as error:
                turn = self._begin
                log.warning("%s", error)
            except InvalidTransition as error:
                log.info("a run changed while it was claimed: %s", error)
            except Exception as error:  # noqa: BLE001 - a worker must not stop claiming
                self._tell(error)
            self._rest()

    def _tell(self, error: Exception) -> None:
        if is_outage(error):
            log.warning("the database is away (%s); looking again", cause(error))
        else:
            log.exception("a turn of the worker failed; looking again")

    def _rest(self) -> None:
        """Wait for a message or the next poll; a message may be a wish to cancel as well."""
        if self._wake.wait(self._settings.poll_seconds):
            self._wake.clear()
            for supervisor in self._alive().values():
                supervisor.look_now()

    def stop(self) -> None:
        """Claim no more; let every run take a checkpoint and go back to the queue. Bounded."""
        self._stopping.set()
        self._wake.set()
        self.join(timeout=self._settings.stop_seconds)
        running = self._alive().values()
        for supervisor in running:
            supervisor.shut_down()
        until = time.monotonic() + self._settings.stop_seconds + 15
        for supervisor in running:
            supervisor.join(timeout=max(0.1, until - time.monotonic()))
        if not self._alive():
            with contextlib.suppress(SQLAlchemyError):
                sign_off(self._engine, self._settings)
        self._engine.dispose()

    def _begin(self) -> None:
        """Register this worker and its slots, then claim."""
        settings = self._settings
        settings.state_folder.mkdir(parents=True, exist_ok=True)
        with writing(self._engine) as connection:
            if is_taken(connection, settings):
                raise NameTaken(settings.worker_name)
            recover(connection, settings, supervised=self._supervised())
            slots = fleet.register_worker(
                connection,
                name=settings.worker_name,
                host=socket.gethostname(),
                pid=os.getpid(),
                offered=self._offered,
                now=database_now(connection),
                cores=settings.cores,
            )
        self._has_gpus = any(slot.kind == "gpu" for slot in slots)
        told = ", ".join(f"{slot.kind} {slot.ordinal}" for slot in slots)
        log.info("worker %s offers %s", settings.worker_name, told or "no slot")
        self._turn()

    def _alive(self) -> dict[int, Supervisor]:
        self._supervisors = {
            slot: supervisor
            for slot, supervisor in self._supervisors.items()
            if supervisor.is_alive()
        }
        return dict(self._supervisors)

    def _supervised(self) -> set[str]:
        return {supervisor.claim.name for supervisor in self._alive().values()}

    def _turn(self) -> None:
        """Say that this worker lives and reap before anything that a bad driver or disk holds up.

        Raises NameTaken: then it claims nothing, and what it runs goes on under its leases.
        """
        busy = set(self._alive())
        self._say_alive(busy)
        self._reap()
        foreign, vitals = self._foreign_use(), self._vitals()
        if foreign is not None or vitals is not None:
            self._say_alive(busy, foreign=foreign, vitals=vitals)
        while not self._stopping.is_set() and self._start_next():
            pass

    def _say_alive(
        self,
        busy: Collection[int],
        *,
        foreign: Mapping[int, str] | None = None,
        vitals: Vitals | None = None,
    ) -> None:
        name = self._settings.worker_name
        with writing(self._engine) as connection:
            mine = fleet.worker_alive(
                connection,
                name,
                pid=os.getpid(),
                busy_slots=busy,
                now=database_now(connection),
                foreign=foreign,
                vitals=vitals,
            )
        if not mine:
            raise NameTaken(name)

    def _reap(self) -> None:
        """End what others lost; whatever hinders that does not hinder this worker's own runs."""
        try:
            reap(self._engine, self._settings)
        except Exception as error:  # noqa: BLE001 - any worker may do it, at any turn
            self._tell(error)

    def _foreign_use(self) -> dict[int, str] | None:
        """Look now and then who else uses the GPUs; None in between, and if that cannot be seen."""
        if not self._has_gpus or time.monotonic() < self._look_at_gpus:
            return None
        mine = psutil.Process()
        try:
            return gpus.foreign_use({mine.pid, *(p.pid for p in mine.children(recursive=True))})
        finally:  # the time from look to look is for work, however long one takes
            self._look_at_gpus = time.monotonic() + GPU_SECONDS

    def _vitals(self) -> Vitals | None:
        """Look now and then at the host, and end what was left behind; None in between."""
        if time.monotonic() < self._look_at_host:
            return None
        self._look_at_host = time.monotonic() + VITALS_SECONDS
        settings, supervised = self._settings, self._supervised()
        with reading(self._engine) as connection:
            skew = clock_skew(connection, time.time)
            left = left_behind(connection, settings, supervised=supervised)
        disk, there = shutil.disk_usage(settings.state_folder), datasets(settings.data_root)
        orphaned = orphans.end(settings.work_folder, left) if left else 0
        return Vitals(skew, disk.free, disk.total, orphaned, there)

    def _start_next(self) -> bool:
        """Claim a run and supervise it; return whether there was one."""
        asked = time.monotonic()
        claim = self._claim()
        if claim is not None:
            self._supervise(claim, asked)
        return claim is not None

    def _claim(self) -> Claim | None:
        with writing(self._engine) as connection:
            return queue.claim(
                connection,
                worker=self._settings.worker_name,
                now=database_now(connection),
                lease=self._settings.lease,
            )

    def _supervise(self, claim: Claim, asked: float) -> None:
        supervisor = Supervisor(
            claim,
            asked=asked,
            engine=self._engine,
            blobs=self._blobs,
            settings=self._settings,
            entry=self._entry,
        )
        for slot in claim.slots:
            self._supervisors[slot.id] = supervisor
        supervisor.start()
