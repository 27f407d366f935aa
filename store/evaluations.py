"""Evaluations and the attacks they are made of."""

import base64
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from domain.ids import new_id
from domain.results import AttackResult, Evaluation
from store.rows import EvaluationRow
from store.runs import fence
from store.tables import attack_results, evaluations


def record(
    connection: Connection, run_id: str, attempt: int, evaluation: Evaluation, now: datetime
) -> str:
    """Keep an evaluation and return its id; an earlier attempt's of the same run is replaced.

    Raises Fenced.
    """
    fence(connection, run_id, attempt)
    earlier = sa.select(evaluations.c.id).where(evaluations.c.run_id == run_id)
    connection.execute(attack_results.delete().where(attack_results.c.evaluation_id.in_(earlier)))
    connection.execute(evaluations.delete().where(evaluations.c.run_id == run_id))
    evaluation_id = new_id(now)
    connection.execute(
        evaluations.insert().values(
            id=evaluation_id,
            run_id=run_id,
            attempt=attempt,
            verdict=evaluation.audit.verdict,
            record=evaluation.model_dump(mode="json"),
            created_at=now,
        )
    )
    for result in (*evaluation.results, evaluation.worst_case):
        connection.execute(attack_results.insert().values(_result_row(evaluation_id, result)))
    return evaluation_id


def _result_row(evaluation_id: str, result: AttackResult) -> dict[str, object]:
    return {
        "evaluation_id": evaluation_id,
        "label": result.label,
        "kind": result.kind,
        "n": result.n,
        "correct": result.correct,
        "accuracy": result.accuracy,
        "low": result.interval.low,
        "high": result.interval.high,
        "outcomes": base64.b64decode(result.outcomes),
    }


def listing(connection: Connection, run_id: str) -> list[EvaluationRow]:
    """Return the evaluations of a run, newest first."""
    rows = connection.execute(
        sa.select(evaluations)
        .where(evaluations.c.run_id == run_id)
        .order_by(evaluations.c.id.desc())
    )
    return [EvaluationRow(**row._mapping) for row in rows]
