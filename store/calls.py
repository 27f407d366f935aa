"""The call to all workers, as the API and the workers make it over the broker."""

from collections.abc import Iterable
from typing import Any

WAKE = "wake"
"""The workers' control command."""


def call_workers(app: Any, runs: Iterable[str]) -> None:  # noqa: ANN401 - a Celery application
    """Have every worker look at the queue, and the owners of ``runs`` at what they were asked.

    In the form of Celery's own broadcast, which would try again without end while the broker is
    away. Raises what kombu and its transport raise, at once.
    """
    exchange = app.control.mailbox.exchange
    arguments = {"runs": sorted(runs)}
    whom = {"destination": None, "pattern": None, "matcher": None}
    with app.producer_or_acquire() as producer:
        producer.publish(
            {"method": WAKE, "arguments": arguments, **whom},
            exchange=exchange.name,
            declare=[exchange],
            headers={"clock": 0, "expires": 0},
            serializer="json",
            retry=False,
        )
