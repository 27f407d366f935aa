"""Messages of a worker: an attempt to its own queue, a call to every worker.

Both fail fast. A message that is lost costs a poll interval: the database says what is to be done.
"""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from celery import Celery
from celery.utils.nodenames import worker_direct
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from store.calls import call_workers

log = logging.getLogger(__name__)
TASK = "partlab.run_attempt"
SOCKET_SECONDS = 1.0
PAUSE_SECONDS = 10.0
"""How long the broker is left alone after it did not take a message."""


@dataclass(frozen=True)
class Order:
    """An attempt that the plan starts on this worker."""

    run_id: str
    attempt: int
    slots: tuple[str, ...]
    """For people: ``gpu 0``."""

    @property
    def key(self) -> tuple[str, int]:
        """What makes two orders one."""
        return self.run_id, self.attempt


class Post:
    """The broker, as one thread of a worker writes to it."""

    def __init__(self, broker_url: str, node: str) -> None:
        """Write to the direct queue of ``node``, Celery's name of this worker."""
        self._queue = worker_direct(node)
        self._away_until = 0.0
        # Apart from the consumer's application, which waits for its broker as long as it takes.
        self._app = Celery("partlab-dispatcher", broker=broker_url, set_as_current=False)
        self._app.conf.update(
            broker_connection_timeout=SOCKET_SECONDS,
            broker_transport_options={
                "socket_timeout": SOCKET_SECONDS,
                "socket_connect_timeout": SOCKET_SECONDS,
                "retry_on_timeout": False,
                "max_retries": 0,
            },
            task_send_sent_event=True,
        )

    def send(self, order: Order, *, expires: float) -> bool:
        """Hand an attempt to Celery; return whether the broker took it.

        expires: seconds after which nobody shall begin it any more.
        """
        words = [order.run_id, order.attempt, list(order.slots)]
        return self._try(
            lambda: self._app.send_task(
                TASK, words, queue=self._queue, expires=expires, retry=False, ignore_result=True
            )
        )

    def wake(self, runs: Iterable[str]) -> bool:
        """Call every worker to look at these runs; return whether the broker took it."""
        return self._try(lambda: call_workers(self._app, runs))

    def close(self) -> None:
        """Close the connections."""
        self._app.close()

    def _try(self, publish: Callable[[], object]) -> bool:
        if time.monotonic() < self._away_until:
            return False
        try:
            publish()
        except (OperationalError, RedisError, OSError) as error:
            self._away_until = time.monotonic() + PAUSE_SECONDS
            log.warning("the broker is away (%s); attempts start without it", type(error).__name__)
            return False
        return True
