"""Supervision of one attempt: stage, start, renew, record, conclude.

One thread reads the child's events and records them; a second, with its own connection, renews the
lease; a third talks to nobody and ends the child in time when both hang. The child is dead before
the lease can pass to anyone else.
"""

import errno
import logging
import shutil
import signal
import threading
import time
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from domain import stored_spec
from domain.control import Renew, Stop, TakeCheckpoint
from domain.errors import (
    CheckpointInvalid,
    DiskFull,
    ExperimentError,
    Fenced,
    InvalidTransition,
    LabError,
)
from domain.events import Failed, Finished, read_frames
from domain.run_state import RunState
from domain.spec import RunSpec, Source, TrainSpec, surrogates
from store import artifacts, checkpoints, metrics, queue, running_time, runs
from store.blobs import BlobMissing, Blobs
from store.engine import database_now, writing
from store.rows import ArtifactRow, Claim
from worker.database import Gone, is_outage, persist
from worker.exits import EXIT_OUT_OF_MEMORY, describe_exit
from worker.failures import rank_out_of_memory
from worker.halving import FACT, as_it_goes_on, more_parts
from worker.process import ENTRY, Assignment, Child
from worker.recorder import Damaged, Recorder, failure
from worker.settings import WorkerSettings
from worker.standby import Standby

log = logging.getLogger(__name__)
MARGIN = 0.2
"""Share of the lease before its end at which the child must be dead."""
PATIENCE = 5.0
"""Seconds a child gets to end by itself, and again after SIGTERM."""


SURROGATES = "surrogates"
"""Folder of the weights that transfer attacks are made on, within the work folder."""
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Verdict: TypeAlias = tuple[RunState, str, dict[str, Any] | None]
"""State, reason and failure; QUEUED without a failure is a planned stop."""
Problem: TypeAlias = DiskFull | Damaged
"""What stopped the recording."""


class Ending(Enum):
    """Why this supervisor ends its child."""

    NONE = "none"
    CANCEL = "cancelled"
    SHUTDOWN = "worker stopped"
    YIELD = "gave way to a run that comes before it"
    PAUSE = "paused"
    STUCK = "stuck"
    LOST = "lease lost"


PLANNED = (Ending.SHUTDOWN, Ending.YIELD, Ending.PAUSE)
"""Endings after which the run goes on later where its checkpoint is."""
KEEPS_ITS_STATE = ("train", "validate", "evaluate")
"""Phases of a child that writes a checkpoint when it is asked."""


class Supervisor:
    """Sees one claimed run through to the end of its attempt, on the thread of its caller."""

    def __init__(
        self,
        claim: Claim,
        *,
        asked: float,
        engine: Engine,
        blobs: Blobs,
        settings: WorkerSettings,
        standby: Standby,
        entry: tuple[str, ...] = ENTRY,
    ) -> None:
        """Take a claim on. asked: the monotonic time before it was; its lease began after that."""
        self.claim = claim
        self._engine = engine
        self._blobs = blobs
        self._settings = settings
        self._standby = standby
        self._entry = entry
        self._id, self._attempt = claim.run.id, claim.attempt
        self._work = settings.work_folder / claim.name
        self._recorder = Recorder(engine, blobs, self._id, self._attempt, self._work)
        self._child: Child | None = None
        self._spec: RunSpec | None = None
        self._ending = Ending.NONE
        self._asking, self._asked = threading.Lock(), False
        self._done = threading.Event()
        self._look = threading.Event()
        self._deadline = asked + self._life

    @property
    def _life(self) -> float:
        return self._settings.lease_seconds * (1 - MARGIN)

    # -- asked from outside -------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether :meth:`run` has nothing more to do."""
        return self._done.is_set()

    def told(self) -> dict[str, Any]:
        """Say what it is at, in plain values, from memory."""
        progress = self._recorder.progress
        return {
            "run": self._id,
            "attempt": self._attempt,
            "slots": [f"{slot.kind} {slot.ordinal}" for slot in self.claim.slots],
            "pid": self._child.process.pid if self._child else None,
            "phase": self._recorder.phase,
            "done": progress.done if progress else None,
            "total": progress.total if progress else None,
            "unit": progress.unit if progress else None,
            "lease_seconds": round(self._left(), 1),
        }

    def give_up(self) -> None:
        """End the child and write nothing more: the run goes on when its lease is over."""
        self._end(Ending.LOST)

    def look_now(self) -> None:
        """Renew at once: something may have changed, such as a wish to cancel."""
        self._look.set()

    def shut_down(self) -> None:
        """Take a checkpoint, then give the run back to the queue."""
        self._stop_after_checkpoint(Ending.SHUTDOWN)

    def _stop_after_checkpoint(self, why: Ending) -> None:
        """Stop between two steps, with as little lost as there is in one; asked twice, once."""
        with self._asking:
            if self._asked:
                return
            self._asked = True
        threading.Thread(target=self._checkpoint_and_end, args=[why], daemon=True).start()

    def _checkpoint_and_end(self, why: Ending) -> None:
        if self._child is not None and self._recorder.phase in KEEPS_ITS_STATE:
            self._await_checkpoint(self._child)
        self._end(why)

    def _await_checkpoint(self, child: Child) -> None:
        before = self._recorder.checkpoints
        until = time.monotonic() + self._settings.stop_seconds
        child.tell(TakeCheckpoint())
        while self._recorder.checkpoints == before and time.monotonic() < until:
            if self._done.wait(0.05):
                return

    def _end(self, why: Ending) -> None:
        if self._ending is Ending.NONE:
            self._ending = why
        if why is Ending.LOST:
            self._recorder.give_up.set()
        child = self._child
        if child is None:
            return
        child.tell(Stop())
        child.signal(signal.SIGKILL if why is Ending.LOST else signal.SIGTERM)
        later = threading.Timer(PATIENCE, child.signal, [signal.SIGKILL])
        later.daemon = True
        later.start()

    # -- the attempt --------------------------------------------------------------------------

    def run(self) -> None:
        """Run the attempt; whatever happens, its end is written or has passed to another."""
        for name, work in (("lease", self._keep_lease), ("deadline", self._keep_deadline)):
            threading.Thread(target=work, name=f"{name}-{self._id}", daemon=True).start()
        try:
            verdict = self._attempt_it()
            if self._ending is Ending.LOST:
                log.warning("run %s attempt %d: %s", self._id, self._attempt, Ending.LOST.value)
            else:
                self._write_verdict(*verdict)
        except (Fenced, InvalidTransition):
            log.info("run %s attempt %d belongs to another now", self._id, self._attempt)
        except Gone:
            log.warning("run %s attempt %d was given up: no database", self._id, self._attempt)
        finally:
            self._done.set()
            self._look.set()
            shutil.rmtree(self._work, ignore_errors=True)

    def _attempt_it(self) -> Verdict:
        """See the child through. Raises Fenced and Gone; anything else is a verdict too."""
        try:
            self._recorder.lines([("info", self._begins())])
            child = self._start(self._stage())
            problem = self._record_all(child)
            return self._judge(self._await_end(child), problem)
        except (Fenced, Gone):
            raise
        except BlobMissing as error:
            return _lost(f"a file to start from is not in the artifact store: {error}")
        except LabError as error:
            kind = error.failure_class if isinstance(error, ExperimentError) else "spec"
            return RunState.FAILED, str(error), failure(kind, error.code, str(error))
        except Exception as error:
            log.exception("run %s attempt %d: its supervisor failed", self._id, self._attempt)
            return _lost(f"the supervisor failed: {type(error).__name__}: {error}")
        finally:
            self._leave_no_child()

    def _begins(self) -> str:
        """Return the first line of an attempt's log."""
        slots = ", ".join(f"{slot.kind} {slot.ordinal}" for slot in self.claim.slots)
        return f"attempt {self._attempt} begins on {self._settings.worker_name} ({slots})"

    def _start(self, assignment: Assignment) -> Child:
        slots = self.claim.slots
        gpus = ",".join(str(slot.ordinal) for slot in slots if slot.kind == "gpu")
        self._child = child = self._standby.take(assignment, visible_gpus=gpus) or Child.start(
            assignment, folder=self._settings.state_folder, visible_gpus=gpus, entry=self._entry
        )
        if self._ending is not Ending.NONE:
            self._end(self._ending)
        pid = child.process.pid
        log.info("run %s attempt %d started, pid %d", self._id, self._attempt, pid)
        return child

    def _await_end(self, child: Child) -> int:
        """Return the exit status, which alone tells of a rank without memory if rank 0 hung."""
        status = child.end(patience=PATIENCE)
        if status == EXIT_OUT_OF_MEMORY and self._recorder.outcome is None:
            self._recorder.record(rank_out_of_memory())
        return status

    def _leave_no_child(self) -> None:
        if self._child is not None and not self._child.over:
            self._child.signal(signal.SIGKILL)
            self._child.end(patience=PATIENCE)

    def _stage(self) -> Assignment:
        """Lay out the work folder. Raises LabError: BlobMissing or DiskFull, among others."""
        try:
            return self._lay_out()
        except OSError as error:
            if error.errno in NO_SPACE:
                raise DiskFull("the worker's state folder has no space") from error
            raise

    def _lay_out(self) -> Assignment:
        """Write the spec and fetch the checkpoint to go on from."""
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)
        run = self.claim.run
        self._spec = spec = as_it_goes_on(stored_spec.read(run.spec), run.facts)
        spec_file = self._work / "spec.json"
        spec_file.write_text(spec.model_dump_json())
        source = None
        if not isinstance(spec, TrainSpec):
            source = self._stage_weights(spec.source, "source.safetensors")
        for key, other in (others := surrogates(spec)).items():
            self._stage_weights(other, f"{SURROGATES}/{key}.safetensors")
        resume = self._stage_resume()
        return Assignment(
            spec=spec_file,
            work=self._work,
            data_root=self._settings.data_root,
            device="cuda" if self.claim.slots[0].kind == "gpu" else "cpu",
            ranks=len(self.claim.slots),
            threads=int((run.facts or {}).get("threads") or self._settings.threads_per_run),
            lease=self._deadline,
            resume=resume,
            source=source,
            surrogates=self._work / SURROGATES if others else None,
        )

    def _stage_weights(self, source: Source, name: str) -> Path:
        """Fetch the weights of another run, or uploaded ones. Raises LabError: there are none."""
        file = self._work / name
        if source.checkpoint is not None:
            with writing(self._engine) as connection:
                row = checkpoints.get(connection, source.checkpoint)
            self._blobs.fetch(row.key, file, sha256=row.sha256)
        elif self._fetch(str(source.run), source.weights, name) is None:
            raise ExperimentError(f"{source.title} has no {source.weights} weights")
        return file

    def _stage_resume(self) -> bool:
        """Fetch the last checkpoint, if any, and drop the metrics it will compute again."""
        step = self._fetch_own()

        def work(connection: Connection) -> None:
            metrics.supersede(connection, self._id, self._attempt, from_step=step or 0)

        persist(self._engine, work, give_up=self._recorder.give_up)
        return step is not None

    def _fetch_own(self) -> int | None:
        """Return the step to go on from; None to start at the beginning, to the same bits.

        Raises BlobMissing: a store that is away for a while still has what was computed.
        """
        try:
            last = self._fetch(self._id, "last", "checkpoints/last.safetensors")
            self._fetch(self._id, "best", "checkpoints/best.safetensors")
            partial = self._fetch(self._id, "partial", "checkpoints/partial.safetensors")
        except CheckpointInvalid as error:
            shutil.rmtree(self._work / "checkpoints", ignore_errors=True)
            self._recorder.lines([("warning", f"starting again from the beginning: {error}")])
            return None
        found = last or partial
        return None if found is None else found.step

    def _fetch(self, run_id: str, role: str, name: str) -> ArtifactRow | None:
        """Copy a run's current checkpoint into the work folder, if there is one."""
        with writing(self._engine) as connection:
            row = artifacts.checkpoint(connection, run_id, role)
        if row is None:
            return None
        self._blobs.fetch(row.key, self._work / name, sha256=row.sha256)
        return row

    def _record_all(self, child: Child) -> Problem | None:
        """Record events until the child says no more; return what stopped it earlier."""
        try:
            for event in read_frames(child.events):
                self._recorder.record(event)
        except (DiskFull, Damaged) as error:
            child.signal(signal.SIGKILL)
            return error
        except (Fenced, Gone):
            self._end(Ending.LOST)
        except (ValueError, OSError) as error:
            child.signal(signal.SIGKILL)
            return Damaged(f"what the training process wrote could not be kept: {error}")
        return None

    def _judge(self, status: int, problem: Problem | None) -> Verdict:
        """Say what the attempt's end means for the run."""
        outcome = self._recorder.outcome
        if isinstance(problem, DiskFull):
            what = failure(problem.failure_class, problem.code, str(problem))
            return RunState.FAILED, str(problem), what
        if isinstance(outcome, Finished) and problem is None:
            if status != 0:
                told = describe_exit(status)
                log.warning("run %s attempt %d finished; then %s", self._id, self._attempt, told)
            return RunState.SUCCEEDED, "finished", None
        if isinstance(outcome, Failed) and outcome.failure_class == "infrastructure":
            return _lost(outcome.message)
        if (parts := self._more_parts()) is not None:
            return RunState.QUEUED, f"out of memory: goes on with {parts} parts a batch", None
        if isinstance(outcome, Failed):
            return RunState.FAILED, outcome.message, outcome.model_dump(exclude={"type"})
        if self._ending is Ending.CANCEL:
            return RunState.CANCELLED, "stopped on request", None
        if self._ending is Ending.STUCK:
            told = (
                f"the run said nothing for {self._settings.stuck_minutes:g} min and was stopped; "
                "its log has the stack of every thread"
            )
            return RunState.FAILED, told, failure("stuck", "stuck", told)
        if self._ending in PLANNED:
            return RunState.QUEUED, f"{self._ending.value}, after a checkpoint", None
        return _lost(str(problem) if problem else describe_exit(status))

    def _more_parts(self) -> int | None:
        """Into how many micro-batches to divide from now on, if that is what is needed."""
        recorder, ranks = self._recorder, len(self.claim.slots)
        if self._spec is None:
            return None
        return more_parts(self._spec, recorder.outcome, recorder.phase, ranks=ranks)

    def _write_verdict(self, state: RunState, reason: str, what: dict[str, Any] | None) -> None:
        tail = list(self._child.tail) if self._child else []

        def work(connection: Connection) -> None:
            now = database_now(connection)
            if state is RunState.QUEUED:
                self._keep_parts(connection)
                self._give_back(connection, reason, lost=what is not None)
                return
            if isinstance(self._recorder.outcome, Finished):
                took = running_time.took(connection, [self._id], now)[self._id]
                summary = {**self._recorder.outcome.summary, "seconds": round(took, 1)}
                runs.record_summary(connection, self._id, self._attempt, summary)
            runs.transition(
                connection,
                self._id,
                to=state,
                now=now,
                reason=reason,
                attempt=self._attempt,
                actor=self._settings.worker_name,
                columns={"failure": what} if what else {},
            )

        if tail and state is not RunState.SUCCEEDED:
            self._recorder.lines([("error", line) for line in tail])
        persist(self._engine, work, give_up=self._recorder.give_up)
        log.info("run %s attempt %d: %s, %s", self._id, self._attempt, state, reason)

    def _keep_parts(self, connection: Connection) -> None:
        if (parts := self._more_parts()) is not None:
            facts = {**(runs.get(connection, self._id).facts or {}), FACT: parts}
            runs.record_facts(connection, self._id, self._attempt, facts)

    def _give_back(self, connection: Connection, reason: str, *, lost: bool) -> None:
        now = database_now(connection)
        if not lost:
            gave_way = self._ending in (Ending.YIELD, Ending.PAUSE)
            why: queue.Ending = "gave-way" if gave_way else "handed-back"
            queue.hand_back(connection, self._id, self._attempt, now=now, reason=reason, ending=why)
            return
        queue.requeue(
            connection,
            self._id,
            self._attempt,
            now=now,
            reason=reason,
            max_attempts=self._settings.max_attempts,
        )

    # -- the lease ----------------------------------------------------------------------------

    def _keep_lease(self) -> None:
        """Renew until the attempt is over or its lease is lost."""
        while not self._done.is_set():
            self._look.wait(min(self._settings.renew_seconds, self._left()))
            self._look.clear()
            if self._done.is_set() or self._recorder.give_up.is_set():
                return
            try:
                self._renew()
            except Fenced:
                self._end(Ending.LOST)
                return
            except SQLAlchemyError as error:
                if not is_outage(error):
                    raise
                log.warning("run %s: the lease could not be renewed", self._id)
                self._done.wait(min(1.0, self._left()))
            self._end_if_stuck()

    def _keep_deadline(self) -> None:
        """End the child when its lease can no longer be held, even while a renewal hangs."""
        while (left := self._left()) > 0:
            if self._done.wait(left):
                return
        self._end(Ending.LOST)

    def _end_if_stuck(self) -> None:
        """Let a child that has said nothing for long write its stacks, then stop it."""
        silent = time.monotonic() - self._recorder.heard_at
        child = self._child
        if child is None or silent < 60 * self._settings.stuck_minutes:
            return
        if self._ending is Ending.NONE:
            child.signal_alone(signal.SIGUSR1)
            self._done.wait(1.0)  # it writes them at once
            self._end(Ending.STUCK)

    def _left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def _renew(self) -> None:
        asked = time.monotonic()
        with writing(self._engine) as connection:
            beat = queue.renew(
                connection,
                self._id,
                self._attempt,
                now=database_now(connection),
                lease=self._settings.lease,
            )
        self._deadline = asked + self._life
        if self._child is not None:
            self._child.tell(Renew(deadline=self._deadline))
        if beat.cancel_requested and self._ending is Ending.NONE:
            self._end(Ending.CANCEL)
        elif beat.pause_requested or beat.yield_requested:
            self._stop_after_checkpoint(Ending.PAUSE if beat.pause_requested else Ending.YIELD)


def _lost(reason: str) -> Verdict:
    """Return the verdict on an attempt that ended through no fault of its run."""
    return RunState.QUEUED, reason, failure("infrastructure", "lost", reason)
