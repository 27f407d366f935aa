"""What a run has to show: metrics, logs, files, evaluations."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Connection

from api.downloads import download
from api.lab import TheLab
from api.models import (
    Artifact,
    EvaluationAnswer,
    History,
    Items,
    LogPage,
    Series,
    items,
)
from api.routes import PREFIX, RunId
from domain import forms
from domain.audit import audit_again
from domain.compare import Comparison, compare
from domain.errors import NotFound
from domain.results import AuditReport, Evaluation
from store import artifacts, evaluations, logs, metrics, runs

router = APIRouter(prefix=f"{PREFIX}/runs/{{run_id}}", tags=["results"])

SeriesName = Annotated[str, Query(pattern=forms.SERIES)]


@router.get("/metrics", response_model=Items[Series])
def list_metrics(run_id: RunId, lab: TheLab) -> object:
    """List a run's series at a glance."""
    with lab.reading() as connection:
        runs.version(connection, run_id)
        return items(metrics.summary(connection, run_id))


@router.get("/metrics/history", response_model=History)
def get_metrics_history(
    run_id: RunId,
    lab: TheLab,
    name: Annotated[tuple[SeriesName, ...], Query(min_length=1, max_length=64)],
    max_points: Annotated[int, Query(ge=3, le=100_000)] = 1000,
) -> object:
    """Return points of series; thinned ones keep every spike."""
    with lab.reading() as connection:
        runs.version(connection, run_id)
        found = {n: metrics.history(connection, run_id, n, max_points=max_points) for n in name}
    return {"series": {n: {"steps": s, "values": v} for n, (s, v) in found.items()}}


@router.get("/logs", response_model=LogPage)
def list_log_lines(
    run_id: RunId,
    lab: TheLab,
    after: Annotated[int | None, Query(ge=0, le=2**53)] = None,
    limit: Annotated[int, Query(ge=1, le=5000)] = 500,
) -> object:
    """Return the last lines of a run's log, or those after an id."""
    with lab.reading() as connection:
        runs.version(connection, run_id)
        lines = logs.tail(connection, run_id, after=after, limit=limit)
    return {"items": lines, "next_after": lines[-1].id if lines else after}


@router.get("/artifacts", response_model=Items[Artifact])
def list_artifacts(run_id: RunId, lab: TheLab) -> object:
    """List a run's files."""
    with lab.reading() as connection:
        runs.version(connection, run_id)
        return items(artifacts.listing(connection, run_id))


@router.get(
    "/artifacts/{artifact_id}/content",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {}}},
        206: {"description": "The bytes of the Range header."},
        304: {"description": "The bytes you have are right."},
        416: {"description": "The file has no such bytes."},
    },
)
def download_artifact(run_id: RunId, artifact_id: RunId, lab: TheLab, request: Request) -> Response:
    """Download a file. `Repr-Digest` and the ETag carry its sha256; `Range` works."""
    with lab.reading() as connection:
        file = artifacts.get(connection, run_id, artifact_id)
    return download(lab.blobs, file, request.headers)


@router.get("/evaluations", response_model=Items[EvaluationAnswer])
def list_evaluations(run_id: RunId, lab: TheLab) -> object:
    """List a run's evaluations: every attack, interval and audit check."""
    with lab.reading() as connection:
        runs.version(connection, run_id)
        return items(evaluations.listing(connection, run_id))


@router.get("/audit", response_model=Items[AuditReport])
def audit_run(run_id: RunId, lab: TheLab) -> object:
    """Apply today's rules to a run's stored evaluations, newest first."""
    with lab.reading() as connection:
        runs.version(connection, run_id)
        rows = evaluations.listing(connection, run_id)
    return items([audit_again(Evaluation.model_validate(row.record)) for row in rows])


@router.get("/comparison/{other_id}")
def compare_runs(
    run_id: RunId,
    other_id: RunId,
    lab: TheLab,
    *,
    force: Annotated[
        bool, Query(description="Compare different threat models, with a warning.")
    ] = False,
) -> Comparison:
    """Pair a run's newest evaluation with another's, image by image.

    409 `incomparable` where they judged other images, or under other threat models.
    """
    with lab.reading() as connection:
        here, there = (_newest(connection, one) for one in (run_id, other_id))
    return compare(here, there, force=force)


def _newest(connection: Connection, run_id: str) -> Evaluation:
    runs.version(connection, run_id)
    rows = evaluations.listing(connection, run_id)
    if not rows:
        raise NotFound("evaluation of run", run_id)
    return Evaluation.model_validate(rows[0].record)
