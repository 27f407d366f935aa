"""Defects to plant in the chaos lab's workers: each breaks one invariant, and chaos must say so.

``python -m tests.chaos --planted`` plants one after the other and says which were seen.
"""

import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from domain.run_state import RunState
from domain.schedule import Start
from store import fleet, metrics, queue, runs
from store.blobs import Blobs
from store.tables import runs as run_rows
from worker import dispatcher, orphans, process, supervisor
from worker.dispatcher import Dispatcher
from worker.recorder import failure
from worker.supervisor import Supervisor


def keep_leases() -> None:
    """A run goes back to the queue with its lease."""
    _drop_indexes()
    end = runs._end_lease

    def wrong(*told: Any, outcome: str) -> None:
        if outcome != "queued":
            end(*told, outcome=outcome)

    runs._end_lease = wrong


def forget_attempts() -> None:
    """A lost run counts its attempts from far below again."""
    give_back = queue._give_back

    def wrong(connection: Any, run_id: str, attempt: int, **told: Any) -> Any:
        to = give_back(connection, run_id, attempt, **told)
        lower = run_rows.update().where(run_rows.c.id == run_id).values(attempt=attempt - 100)
        connection.execute(lower)
        return to

    queue._give_back = wrong


def fail_the_lost() -> None:
    """A run whose attempt was lost has failed."""

    def wrong(reason: str) -> supervisor.Verdict:
        return RunState.FAILED, reason, failure("infrastructure", "lost", reason)

    supervisor._lost = wrong


def raise_the_dead() -> None:
    """Looking for lost runs makes ended ones runnable."""
    reap = queue.reap

    def wrong(connection: Any, **told: Any) -> Any:
        ended = run_rows.update().where(run_rows.c.state == "succeeded")
        connection.execute(ended.values(state="queued", finished_at=None))
        return reap(connection, **told)

    queue.reap = wrong


def share_slots() -> None:
    """Every claim takes the same slot."""
    _drop_indexes()
    claim = queue._claim

    def wrong(connection: Any, start: Any, now: Any, lease: Any) -> Any:
        first = fleet.slots_of(connection, start.worker)[0].id
        return claim(connection, replace(start, slots=(first,)), now, lease)

    queue._claim = wrong


def claim_seldom() -> None:
    """A worker looks at the queue at every eighth poll only."""
    hand_out, turns = Dispatcher._hand_out, [0]

    def wrong(self: Dispatcher) -> None:
        turns[0] += 1
        if turns[0] % 8 == 0:
            hand_out(self)

    Dispatcher._hand_out = wrong


def keep_metrics() -> None:
    """A resumed run adds to the metrics it will compute again."""
    metrics.supersede = _nothing


def spoil_checkpoints() -> None:
    """A checkpoint is fetched with another step than it was saved with."""
    fetch = Blobs.fetch

    def wrong(self: Blobs, key: str, target: Path, *, sha256: str) -> None:
        fetch(self, key, target, sha256=sha256)
        step, _, rest = target.read_bytes().partition(b" ")
        target.write_bytes(b"%d %s" % (int(step), rest.replace(rest[:4], b"0000", 1)))

    Blobs.fetch = wrong


def loose_leash() -> None:
    """A child is told that it may live for long, and is not killed when its lease is lost."""
    Supervisor._life = property(lambda _: 60.0)
    end = Supervisor._end

    def wrong(self: Supervisor, why: supervisor.Ending) -> None:
        if why is not supervisor.Ending.LOST:
            end(self, why)

    Supervisor._end = wrong


def leave_forks() -> None:
    """What a child forked is left alone when it ends, and when its worker was killed."""
    process.Child.end = _end_alone
    orphans.end = _nothing


def _end_alone(child: process.Child, *, patience: float) -> int:
    with suppress(subprocess.TimeoutExpired):
        child.process.wait(timeout=patience)
    child.process.terminate()
    status = child.process.wait()
    child.over = True
    child.events.close()
    return status


def _nothing(*_: object, **__: object) -> None: ...


def _drop_indexes() -> None:
    """Without them the database itself would refuse what is planted here."""
    begin = Dispatcher._begin

    def wrong(self: Dispatcher) -> None:
        with dispatcher.writing(self._engine) as connection:
            for index in ("uq_leases_live_run", "uq_leases_live_slot"):
                connection.execute(sa.text(f"DROP INDEX IF EXISTS {index}"))
        begin(self)

    Dispatcher._begin = wrong


def claim_unplanned() -> None:
    """A task claims its run without asking the plan."""
    _drop_indexes()

    def wrong(self: Dispatcher, run_id: str, _attempt: int) -> Any:
        name = self._settings.worker_name
        with dispatcher.writing(self._engine) as connection:
            start = Start(run_id, name, (fleet.slots_of(connection, name)[0].id,))
            now, lease = dispatcher.database_now(connection), self._settings.lease
            return queue._claim(connection, start, now, lease)

    Dispatcher._claim = wrong


def forget_refusal() -> None:
    """A worker that is told to stop goes on beginning attempts until it has ended."""
    Dispatcher.refuse = _nothing
    Dispatcher.join = _nothing  # it would wait, and the runs be over


BUGS: Mapping[str, tuple[Callable[[], None], str, tuple[str, ...]]] = {
    "keep-leases": (keep_leases, "one live lease a run", ("kill child",)),
    "forget-attempts": (forget_attempts, "attempts only rise", ("kill child",)),
    "fail-the-lost": (fail_the_lost, "ends are right", ("kill child",)),
    "raise-the-dead": (raise_the_dead, "ends are final", ("flush broker",)),
    "share-slots": (share_slots, "slots suffice", ("flush broker",)),
    "claim-seldom": (claim_seldom, "runnable runs start within two polls", ("kill child",)),
    "keep-metrics": (keep_metrics, "metrics without gaps or doubles", ("kill worker",)),
    "spoil-checkpoints": (spoil_checkpoints, "weights of an undisturbed run", ("restart worker",)),
    "loose-leash": (loose_leash, "no child survives its lease", ("freeze worker",)),
    "claim-unplanned": (claim_unplanned, "slots suffice", ("doubled messages",)),
    "forget-refusal": (
        forget_refusal,
        "a stopping worker begins nothing",
        ("restart worker", "restart worker cold"),
    ),
    "leave-forks": (leave_forks, "no process is left", ("kill child",)),
}
"""What is planted, the invariant it breaks, and the faults that bring it out."""


def plant(name: str) -> None:
    """Plant a defect by its name; none without one."""
    if name:
        BUGS[name][0]()
