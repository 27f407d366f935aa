"""The Celery application: attempts are its tasks, wakes and questions its control commands.

``celery --app worker.app worker``
"""

import os
import signal
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

from celery import Celery, bootsteps
from celery.apps.worker import REMAP_SIGTERM
from celery.signals import celeryd_init, worker_shutting_down
from celery.utils.nodenames import default_nodename
from celery.worker.control import control_command, inspect_command

from store.calls import WAKE
from store.settings import from_environment
from worker.dispatcher import Dispatcher
from worker.post import TASK, Post
from worker.settings import WorkerSettings
from worker.wake import Wake

COLD = ("SIGQUIT", *(("SIGTERM",) if REMAP_SIGTERM == "SIGQUIT" else ()))
"""Signals by which Celery ends at once."""

app = Celery("partlab")
app.conf.update(
    broker_url=from_environment(WorkerSettings).broker_url,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={"socket_timeout": 10, "socket_connect_timeout": 5},
    # What is acknowledged late is sent again after a visibility timeout: leases do that better.
    task_acks_late=False,
    task_default_queue="partlab",
    task_ignore_result=True,
    worker_pool="threads",
    worker_direct=True,
    worker_disable_prefetch=True,
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    worker_hijack_root_logger=False,
)


class Duty:
    """What tasks and commands reach the dispatcher by; there is none before it has started."""

    dispatcher: Dispatcher | None = None
    wake = Wake()


@app.task(name=TASK)  # type: ignore[untyped-decorator]
def run_attempt(run_id: str, attempt: int, slots: Sequence[str]) -> None:  # noqa: ARG001 - shown
    """See an attempt through, if the plan still starts it here."""
    if Duty.dispatcher is not None:
        Duty.dispatcher.run_attempt(run_id, attempt)


# -- control commands: they run in the consumer's loop, and neither wait nor touch the database ----


@control_command(name=WAKE, variadic="runs", signature="[RUN ...]")  # type: ignore[untyped-decorator]
def wake(state: Any, runs: Sequence[str] = ()) -> dict[str, str]:  # noqa: ANN401, ARG001 - Celery's
    """Look at the queue now, and at what these runs were asked to do."""
    Duty.wake.call(str(run) for run in runs)
    return {"ok": "awake"}


@control_command()  # type: ignore[untyped-decorator]
def drain(state: Any) -> dict[str, str]:  # noqa: ANN401, ARG001
    """Give this worker nothing more; what it has runs to its end."""
    return _drain(draining=True)


@control_command()  # type: ignore[untyped-decorator]
def undrain(state: Any) -> dict[str, str]:  # noqa: ANN401, ARG001
    """Give this worker runs again."""
    return _drain(draining=False)


def _drain(*, draining: bool) -> dict[str, str]:
    if Duty.dispatcher is None:
        return {"error": "the dispatcher has not started"}
    Duty.dispatcher.drain(draining=draining)
    return {"ok": "draining" if draining else "in service"}


@inspect_command()  # type: ignore[untyped-decorator]
def attempts(state: Any) -> list[dict[str, Any]]:  # noqa: ANN401, ARG001
    """Say what every attempt on this worker is at, and how long its lease holds."""
    return Duty.dispatcher.attempts() if Duty.dispatcher else []


# -- the worker's life -----------------------------------------------------------------------------


@celeryd_init.connect  # type: ignore[untyped-decorator]
def configure(sender: str, instance: Any, conf: Any, **_: object) -> None:  # noqa: ANN401
    """Name the node after the worker, and give it a thread for each slot.

    Direct queues are named after nodes: two workers of one host must not share one.
    """
    settings = from_environment(WorkerSettings)
    if sender == default_nodename(None):
        instance.hostname = f"celery@{settings.worker_name}"
    conf.worker_concurrency = max(1, len(settings.slots()))


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def refuse(**_: object) -> None:
    """Begin nothing any more: tasks that start from now on return."""
    if Duty.dispatcher is not None:
        Duty.dispatcher.refuse()


class DispatcherStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Starts the dispatcher before the consumer, so that a missing broker stops nothing.

    It ends before the pool, which would wait for its tasks as long as they take.
    """

    requires = frozenset({"celery.worker.components:Pool"})

    def start(self, parent: Any) -> None:  # noqa: ANN401 - Celery's worker
        """Start the dispatcher's thread."""
        settings = from_environment(WorkerSettings)
        post = Post(settings.broker_url, parent.hostname) if settings.broker_url else None
        Duty.dispatcher = Dispatcher(settings, wake=Duty.wake, post=post)
        Duty.dispatcher.start()
        for name in COLD:
            _hand_back_before(getattr(signal, name))

    def stop(self, parent: object) -> None:  # noqa: ARG002 - Celery's signature
        """Give every run back, with a checkpoint."""
        if Duty.dispatcher is not None:
            Duty.dispatcher.stop()

    terminate = stop


def _hand_back_before(number: signal.Signals) -> None:
    """Let a signal's handler wait until every run is given back; a second signal is not kept.

    Celery's own waits for the pool's tasks, which end when their runs are given back.
    """
    celerys = signal.getsignal(number)
    asked, ask = os.pipe()

    def hand_back() -> None:
        os.read(asked, 1)
        if Duty.dispatcher is not None:
            Duty.dispatcher.stop()
        os.kill(os.getpid(), number)

    def handler(_number: int, _frame: FrameType | None) -> None:
        # A pipe, since a handler may take no lock, and so start no thread.
        signal.signal(number, celerys)
        os.write(ask, b".")

    threading.Thread(target=hand_back, name="hand-back", daemon=True).start()
    signal.signal(number, handler)


app.steps["worker"].add(DispatcherStep)
