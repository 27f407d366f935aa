"""The queue's numbers in Prometheus' text format."""

from collections.abc import Iterable, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from store.checkup import Counts

MEDIA_TYPE = CONTENT_TYPE_LATEST


def written(counts: Counts) -> bytes:
    """Return ``counts`` as a scrape expects them."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(counts))
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        """Yield every metric."""
        counts = self._counts
        yield _gauge("runs", "Runs by state.", ("state",), counts.runs)
        yield _gauge("slots", "Slots by what becomes of them.", ("kind", "use"), counts.slots)
        yield _gauge("workers", "Workers that have not ended.", ("liveness",), counts.workers)
        ended = CounterMetricFamily(
            "partlab_attempts_ended", "Attempts by how they ended.", labels=("outcome",)
        )
        for outcome, count in sorted(counts.ended.items()):
            ended.add_metric((outcome,), count)
        yield ended
        yield GaugeMetricFamily(
            "partlab_leases_overdue", "Live leases that have run out.", value=counts.overdue
        )
        yield _gauge(
            "oldest_wait_seconds",
            "How long the oldest runnable run of a queue waits.",
            ("queue",),
            counts.oldest_wait,
        )
        if counts.reaper is not None:
            yield GaugeMetricFamily(
                "partlab_reaper_last_beat_timestamp_seconds",
                "When leases were last looked through, by the database's clock.",
                value=counts.reaper.timestamp(),
            )
        yield from self._hosts()

    def _hosts(self) -> Iterable[Metric]:
        live = [host for host in self._counts.hosts if not host.has_left]
        silent = {h.name: h.silent_seconds for h in live}
        skews = {h.name: h.clock_skew for h in live if h.clock_skew is not None}
        free = {h.name: h.disk.free for h in live if h.disk is not None}
        left = {h.name: h.orphans for h in live if h.orphans is not None}
        by = ("worker",)
        yield _gauge("worker_silent_seconds", "Since the worker was last heard.", by, silent)
        yield _gauge("worker_clock_skew_seconds", "Its clock ahead of the database's.", by, skews)
        yield _gauge("worker_disk_free_bytes", "Free on the disk it works on.", by, free)
        yield _gauge(
            "worker_orphans", "Processes of ended attempts that it could not kill.", by, left
        )


def _gauge(
    name: str,
    told: str,
    labels: tuple[str, ...],
    values: Mapping[str, float] | Mapping[tuple[str, str], int],
) -> Metric:
    made = GaugeMetricFamily(f"partlab_{name}", told, labels=labels)
    for key, value in sorted(values.items()):
        made.add_metric((key,) if isinstance(key, str) else key, value)
    return made
