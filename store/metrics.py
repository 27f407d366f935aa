"""Metric series in packed chunks: idempotent by batch, NaN and infinities kept."""

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from store.rows import SeriesSummary
from store.runs import fence
from store.tables import metric_batches, metric_chunks, metric_series

CHUNK_POINTS = 4096


def append(
    connection: Connection,
    run_id: str,
    attempt: int,
    *,
    batch: int,
    steps: Sequence[int],
    values: Mapping[str, Sequence[float]],
) -> bool:
    """Add one columnar batch; return False when that batch was there already.

    steps: ascending; one column of equal length a series. All of it is kept or none.

    Raises Fenced, and ValueError when a column's length differs.
    """
    fence(connection, run_id, attempt)
    mine = {"run_id": run_id, "attempt": attempt, "batch": batch}
    if connection.execute(sa.select(metric_batches).filter_by(**mine)).one_or_none() is not None:
        return False
    connection.execute(metric_batches.insert().values(mine))
    for name, column in values.items():
        if len(column) != len(steps):
            raise ValueError(f"{name}: {len(column)} values for {len(steps)} steps")
        if column:
            _append_points(connection, run_id, name, steps, column)
    return True


def _append_points(
    connection: Connection, run_id: str, name: str, steps: Sequence[int], values: Sequence[float]
) -> None:
    tail = connection.execute(
        _chunks(run_id, name).order_by(metric_chunks.c.number.desc()).limit(1)
    ).one_or_none()
    number, all_steps, all_values = 0, array("q"), array("d")
    if tail is not None:
        number = tail.number + (tail.points >= CHUNK_POINTS)
        if tail.points < CHUNK_POINTS:
            all_steps, all_values = _unpack(tail)
    all_steps.extend(steps)
    all_values.extend(values)
    for start in range(0, len(all_steps), CHUNK_POINTS):
        part = slice(start, start + CHUNK_POINTS)
        _put_chunk(connection, run_id, name, number, all_steps[part], all_values[part])
        number += 1
    _put_series(connection, run_id, name, steps, values)


def _chunks(run_id: str, name: str) -> sa.Select[Any]:
    return sa.select(metric_chunks).where(
        metric_chunks.c.run_id == run_id, metric_chunks.c.name == name
    )


def _unpack(chunk: sa.Row[Any]) -> "tuple[array[int], array[float]]":
    steps, values = array("q"), array("d")
    steps.frombytes(chunk.steps)
    values.frombytes(chunk._mapping["values"])
    return steps, values


def _put_chunk(
    connection: Connection,
    run_id: str,
    name: str,
    number: int,
    steps: "array[int]",
    values: "array[float]",
) -> None:
    key = {"run_id": run_id, "name": name, "number": number}
    numbers = [v for v in values if not math.isnan(v)]
    columns = {
        "points": len(steps),
        "first_step": steps[0],
        "last_step": steps[-1],
        "minimum": min(numbers, default=None),
        "maximum": max(numbers, default=None),
        "steps": steps.tobytes(),
        "values": values.tobytes(),
    }
    same = sa.and_(*(metric_chunks.c[column] == value for column, value in key.items()))
    if connection.execute(metric_chunks.update().where(same).values(columns)).rowcount == 0:
        connection.execute(metric_chunks.insert().values({**key, **columns}))


def _put_series(
    connection: Connection, run_id: str, name: str, steps: Iterable[int], values: Sequence[float]
) -> None:
    """Fold new points into the aggregates."""
    same = sa.and_(metric_series.c.run_id == run_id, metric_series.c.name == name)
    row = connection.execute(sa.select(metric_series).where(same)).one_or_none()
    points = list(zip(values, steps, strict=True))
    known = [(v, s) for v, s in points if not math.isnan(v)]
    lows, highs = list(known), list(known)
    if row is not None and row.minimum is not None:
        lows.insert(0, (row.minimum, row.minimum_step))
        highs.insert(0, (row.maximum, row.maximum_step))
    low = min(lows, key=lambda p: p[0], default=(None, None))
    high = max(highs, key=lambda p: p[0], default=(None, None))
    last, last_step = points[-1]
    columns = {
        "points": len(points) + (row.points if row is not None else 0),
        "last": None if math.isnan(last) else last,
        "last_step": last_step,
        "minimum": low[0],
        "minimum_step": low[1],
        "maximum": high[0],
        "maximum_step": high[1],
    }
    if row is None:
        connection.execute(metric_series.insert().values(run_id=run_id, name=name, **columns))
    else:
        connection.execute(metric_series.update().where(same).values(columns))


def supersede(connection: Connection, run_id: str, attempt: int, *, from_step: int) -> None:
    """Drop every point at or after ``from_step``: a resumed attempt computes them again.

    Raises Fenced.
    """
    fence(connection, run_id, attempt)
    mine = metric_series.c.run_id == run_id
    names = connection.scalars(
        sa.select(metric_series.c.name).where(mine, metric_series.c.last_step >= from_step)
    ).all()
    for name in names:
        steps, values = history(connection, run_id, name)
        kept = sum(1 for step in steps if step < from_step)
        connection.execute(metric_series.delete().where(mine, metric_series.c.name == name))
        connection.execute(
            metric_chunks.delete().where(
                metric_chunks.c.run_id == run_id, metric_chunks.c.name == name
            )
        )
        if kept:
            _append_points(connection, run_id, name, steps[:kept], values[:kept])


def summary(connection: Connection, run_id: str) -> list[SeriesSummary]:
    """Return every series of a run at a glance, by name."""
    rows = connection.execute(
        sa.select(metric_series)
        .where(metric_series.c.run_id == run_id)
        .order_by(metric_series.c.name)
    )
    return [
        SeriesSummary(
            name=row.name,
            count=row.points,
            last=_number(row.last),
            last_step=row.last_step,
            minimum=_number(row.minimum),
            minimum_step=row.minimum_step,
            maximum=_number(row.maximum),
            maximum_step=row.maximum_step,
        )
        for row in rows
    ]


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def history(
    connection: Connection, run_id: str, name: str, *, max_points: int | None = None
) -> tuple[list[int], list[float]]:
    """Return a series' steps and values, thinned to about ``max_points`` if given.

    Thinning keeps each bucket's smallest and largest value, so no spike is lost, and the first and
    last point. An unknown name is an empty series.
    """
    steps, values = array("q"), array("d")
    for chunk in connection.execute(_chunks(run_id, name).order_by(metric_chunks.c.number)):
        more_steps, more_values = _unpack(chunk)
        steps.extend(more_steps)
        values.extend(more_values)
    if max_points is None or len(steps) <= max_points:
        return steps.tolist(), values.tolist()
    kept = thin(values, max_points)
    return [steps[i] for i in kept], [values[i] for i in kept]


def thin(values: Sequence[float], max_points: int) -> list[int]:
    """Return ascending indices: each bucket's extremes, its first non-number, and both ends."""
    buckets = max(1, (max_points - 2) // 2)
    kept = {0, len(values) - 1}
    for bucket in range(buckets):
        span = range(bucket * len(values) // buckets, (bucket + 1) * len(values) // buckets)
        numbers = [i for i in span if not math.isnan(values[i])]
        if numbers:
            kept |= {min(numbers, key=values.__getitem__), max(numbers, key=values.__getitem__)}
        if len(numbers) < len(span):
            kept.add(next(i for i in span if math.isnan(values[i])))
    return sorted(kept)
