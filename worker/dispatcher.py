"""The loop of a worker: wake, reap, plan, and hand out the attempts that start here.

The plan is SQL's. An attempt runs on a thread of Celery's pool, where the operator's tools see it;
while the broker is away, on a thread made here. Either way :meth:`Dispatcher.run_attempt` claims
the run first, and only if the plan still says so: a lost, late or doubled message costs nothing.
"""

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from domain.errors import Fenced, InvalidTransition
from domain.schedule import Start
from store import fleet, queue
from store.blobs import Blobs
from store.engine import database_now, make_engine, writing
from store.rows import Claim, Vitals
from worker import orphans
from worker.database import cause, is_outage
from worker.host import Host
from worker.post import Order, Post
from worker.process import ENTRY
from worker.reaper import is_taken, reap, recover, sign_off
from worker.settings import WorkerSettings
from worker.standby import Standby
from worker.supervisor import Supervisor
from worker.wake import Wake

log = logging.getLogger(__name__)
ANSWER_SHARE = 0.9
"""Of a poll, in which a message has begun its attempt, or counts as lost at the next poll."""
LAST_WORDS_SECONDS = 15.0
"""How long a stopped attempt has to write its end."""


class NameTaken(Exception):
    """Another worker of that name is at work."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"another worker named {name} is at work; this one starts when it has ended. "
            "Set PARTLAB_WORKER_NAME to run both."
        )


class Dispatcher(threading.Thread):
    """Starts runs on this host's slots. Messages only wake it up; it polls as well."""

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        wake: Wake,
        post: Post | None = None,
        entry: tuple[str, ...] = ENTRY,
    ) -> None:
        """Work for ``settings``. post: the way to Celery; without one, attempts start here."""
        super().__init__(name="dispatcher", daemon=True)
        self._settings = settings
        self._wake = wake
        self._post = post
        self._entry = entry
        self._offered = settings.slots()
        # A supervisor records and renews at the same time; one is the dispatcher's, one is spare.
        self._engine = make_engine(settings.database, pool_size=2 * len(self._offered) + 2)
        self._blobs = Blobs(settings.artifacts)
        self._standby = Standby(settings, entry=entry)
        self._host = Host(self._engine, settings, self._blobs, self._standby)
        self._names: Mapping[int, str] = {}
        self._refuses = False
        self._drain: bool | None = None
        # Shared with the threads that run attempts.
        self._changed = threading.Condition()
        self._ordered: dict[tuple[str, int], float] = {}
        self._calls = 0
        self._supervisors: dict[int, Supervisor] = {}

    # -- asked from other threads -----------------------------------------------------------------

    def drain(self, *, draining: bool) -> None:
        """Give this worker nothing more, or runs again, from the next turn on."""
        self._drain = draining
        self._wake.call()

    def attempts(self) -> list[dict[str, Any]]:
        """Say what every attempt is at, from memory."""
        return [supervisor.told() for supervisor in set(self._alive().values())]

    def refuse(self) -> None:
        """Begin no attempt any more; those that run go on until :meth:`stop`.

        For signal handlers, which may take no lock: the thread they interrupt may hold it.
        """
        self._refuses = True

    def stop(self) -> None:
        """Begin nothing; let every run take a checkpoint and go back to the queue. Bounded."""
        self.refuse()
        self._wake.call()
        if self.is_alive():
            self.join(timeout=self._settings.stop_seconds)
        for supervisor in set(self._alive().values()):
            supervisor.shut_down()
        if not self._are_over(self._settings.stop_seconds + LAST_WORDS_SECONDS):
            for supervisor in set(self._alive().values()):
                supervisor.give_up()
            self._are_over(LAST_WORDS_SECONDS)
        self._standby.stop()
        if not self._alive():
            with contextlib.suppress(SQLAlchemyError):
                sign_off(self._engine, self._settings)
        if self._post is not None:
            self._post.close()
        self._engine.dispose()

    def _are_over(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._calls == 0, timeout=seconds)

    # -- the loop -----------------------------------------------------------------------------

    def run(self) -> None:
        """Work until :meth:`stop`."""
        self._standby.start()
        turn = self._begin
        while not self._refuses:
            try:
                turn()
                turn = self._turn
            except NameTaken as error:
                turn = self._begin
                log.warning("%s", error)
            except Exception as error:  # noqa: BLE001 - a worker must not stop claiming
                self._tell(error)
            self._look_at(self._wake.wait(self._settings.poll_seconds))

    def _tell(self, error: Exception) -> None:
        if is_outage(error):
            log.warning("the database is away (%s); looking again", cause(error))
        else:
            log.exception("a turn of the worker failed; looking again")

    def _look_at(self, runs: Collection[str]) -> None:
        """Let the supervisors of these runs see at once what they were asked to do."""
        for supervisor in set(self._alive().values()):
            if supervisor.claim.run.id in runs:
                supervisor.look_now()

    def _begin(self) -> None:
        """Register this worker and its slots, then hand out."""
        settings = self._settings
        settings.state_folder.mkdir(parents=True, exist_ok=True)
        self._stand_by_for_another()
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
        self._host.has_gpus = any(slot.kind == "gpu" for slot in slots)
        self._names = {slot.id: f"{slot.kind} {slot.ordinal}" for slot in slots}
        log.info("worker %s offers %s", settings.worker_name, ", ".join(self._names.values()))
        orphans.forget(settings.work_folder)
        self._turn()

    def _stand_by_for_another(self) -> None:
        """Let the lab know that two ask for one name. Raises NameTaken."""
        name, host = self._settings.worker_name, socket.gethostname()
        with writing(self._engine) as connection:
            taken = is_taken(connection, self._settings)
            if taken:
                fleet.note_rival(connection, name, host=host, now=database_now(connection))
        if taken:
            raise NameTaken(name)

    def _turn(self) -> None:
        """Say that this worker lives and reap before anything that a bad driver or disk holds up.

        Raises NameTaken: then it claims nothing, and what it runs goes on under its leases.
        """
        busy = set(self._alive())
        self._say_alive(busy)
        self._reap()
        foreign, vitals = self._host.foreign_use(), self._host.vitals(self._supervised())
        if foreign is not None or vitals is not None:
            self._say_alive(busy, foreign=foreign, vitals=vitals)
        if not self._refuses and not self._host.store_error:
            self._standby.want(len(self._offered) - len(busy))
            self._hand_out()

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
            if self._drain is not None:
                fleet.drain(connection, name, draining=self._drain)
        self._drain = None
        if not mine:
            raise NameTaken(name)

    def _reap(self) -> None:
        """Reap expired leases; a failure here does not hinder this worker's own runs."""
        try:
            reap(self._engine, self._settings)
        except Exception as error:  # noqa: BLE001 - any worker may do it, at any turn
            self._tell(error)

    # -- handing out --------------------------------------------------------------------------

    def _hand_out(self) -> None:
        """Plan; call whoever must give way; order what starts here."""
        with writing(self._engine) as connection:
            now = database_now(connection)
            seen = queue.look(connection, worker=self._settings.worker_name, now=now)
        if seen.yielding:
            self._look_at(seen.yielding)
            self._call(seen.yielding)
        orders = [self._order_of(start, attempt) for start, attempt in seen.starts]
        with self._changed:
            wanted = {order.key for order in orders}
            self._ordered = {key: at for key, at in self._ordered.items() if key in wanted}
        for order in orders:
            self._order(order)

    def _order_of(self, start: Start, attempt: int) -> Order:
        slots = tuple(self._names.get(slot, str(slot)) for slot in start.slots)
        return Order(start.run_id, attempt, slots)

    def _call(self, runs: Iterable[str]) -> None:
        if self._post is not None:
            self._post.wake(runs)

    def _order(self, order: Order) -> None:
        """Have an attempt begun, once: by Celery, or here if that does not happen by the next poll.

        A message that comes later still costs nothing, and nobody gets it after two polls.
        """
        poll, now = self._settings.poll_seconds, time.monotonic()
        with self._changed:
            sent = self._ordered.get(order.key)
            if sent is not None and now - sent < ANSWER_SHARE * poll:
                return
            self._ordered[order.key] = now
        is_lost = sent is not None
        if is_lost or self._post is None or not self._post.send(order, expires=2 * poll):
            arguments = (order.run_id, order.attempt)
            threading.Thread(target=self.run_attempt, args=arguments, daemon=True).start()

    # -- attempts, each on a thread of the pool's or one made here ---------------------------------

    def run_attempt(self, run_id: str, attempt: int) -> None:
        """Claim that attempt, if the plan still says so, and see it through."""
        with self._changed:
            if self._refuses:
                return
            self._calls += 1
        try:
            supervisor = self._take_on(run_id, attempt)
            if supervisor is not None:
                supervisor.run()
        except Exception as error:  # noqa: BLE001 - the next look orders it again
            self._tell(error)
        finally:
            self._end_call()
            self._wake.call()  # a slot is free, or another run is to start on it

    def _take_on(self, run_id: str, attempt: int) -> Supervisor | None:
        asked = time.monotonic()
        try:
            claim = self._claim(run_id, attempt)
        except (Fenced, InvalidTransition) as error:
            log.info("run %s is not begun: %s", run_id, error)
            return None
        finally:
            with self._changed:
                self._ordered.pop((run_id, attempt), None)
        return None if claim is None else self._supervise(claim, asked)

    def _claim(self, run_id: str, attempt: int) -> Claim | None:
        with writing(self._engine) as connection:
            return queue.claim(
                connection,
                worker=self._settings.worker_name,
                now=database_now(connection),
                lease=self._settings.lease,
                only=(run_id, attempt),
            )

    def _supervise(self, claim: Claim, asked: float) -> Supervisor:
        supervisor = Supervisor(
            claim,
            asked=asked,
            engine=self._engine,
            blobs=self._blobs,
            settings=self._settings,
            standby=self._standby,
            entry=self._entry,
        )
        with self._changed:
            self._supervisors |= {slot.id: supervisor for slot in claim.slots}
        # Looked at after it is known to :meth:`stop`: one of the two sees the other.
        if self._refuses:
            supervisor.shut_down()
        return supervisor

    def _end_call(self) -> None:
        with self._changed:
            self._calls -= 1
            self._supervisors = {
                slot: supervisor
                for slot, supervisor in self._supervisors.items()
                if not supervisor.is_over
            }
            self._changed.notify_all()

    def _alive(self) -> dict[int, Supervisor]:
        with self._changed:
            return dict(self._supervisors)

    def _supervised(self) -> set[str]:
        return {supervisor.claim.name for supervisor in self._alive().values()}
