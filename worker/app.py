"""The Celery application: a message here only wakes the foreman, which does the work.

``celery --app worker.app worker --pool threads --concurrency 1``
"""

import threading
from typing import Any

from celery import Celery, bootsteps

from store.settings import from_environment
from worker.foreman import Foreman
from worker.settings import WorkerSettings

WAKE = threading.Event()

app = Celery("partlab")
app.conf.update(
    broker_url=from_environment(WorkerSettings).broker_url,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={"socket_timeout": 10, "socket_connect_timeout": 5},
    task_default_queue="doorbell",
    task_acks_late=False,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
)


@app.task(name="partlab.doorbell")  # type: ignore[untyped-decorator]
def doorbell() -> None:
    """Wake the foreman: something was submitted or cancelled."""
    WAKE.set()


class ForemanStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Starts the foreman before the consumer, so that a missing broker stops nothing."""

    requires = frozenset({"celery.worker.components:Pool"})

    def __init__(self, parent: object, **options: Any) -> None:  # noqa: ANN401 - Celery's own
        super().__init__(parent, **options)
        self._foreman: Foreman | None = None

    def start(self, parent: object) -> None:  # noqa: ARG002 - Celery's signature
        """Start the foreman's thread."""
        self._foreman = Foreman(WorkerSettings(), wake=WAKE)
        self._foreman.start()

    def stop(self, parent: object) -> None:  # noqa: ARG002 - Celery's signature
        """Give every run back, with a checkpoint."""
        if self._foreman is not None:
            self._foreman.stop()
            self._foreman = None

    terminate = stop


app.steps["worker"].add(ForemanStep)
