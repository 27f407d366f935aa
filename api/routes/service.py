"""The lab itself: queue, workers, catalogue, who I am, health."""

import csv
import io
from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from sqlalchemy.exc import InterfaceError, OperationalError, ProgrammingError
from starlette.responses import Response

from api import exposition
from api.auth import Reader
from api.checkups import examine
from api.lab import TheLab
from api.models import (
    Catalog,
    Checkup,
    Health,
    Items,
    LedgerEntry,
    QueueAnswer,
    UserAnswer,
    WorkerAnswer,
    items,
)
from api.problems import problem
from api.routes import PREFIX, Moment
from domain.catalog import DATASETS, MODELS
from domain.checkup import worst
from domain.recipes import PRESETS
from domain.units import format_radius
from store import checkup as checkups
from store import fleet, ledger, positions
from store.engine import database_now
from store.rows import QueueView, User

router = APIRouter(prefix=PREFIX, tags=["lab"])
health = APIRouter(tags=["health"])
metrics = APIRouter(tags=["lab"])
"""Where Prometheus looks; it sends a token as every client does."""


@router.get("/queue", response_model=QueueAnswer)
def get_queue(lab: TheLab) -> QueueView:
    """Show the queue in numbers."""
    with lab.reading() as connection:
        return positions.queue(connection)


@router.get("/workers", response_model=Items[WorkerAnswer])
def list_workers(lab: TheLab) -> object:
    """List workers, their slots and what occupies them."""
    with lab.reading() as connection:
        return items(fleet.all_workers(connection))


@router.get(
    "/ledger",
    response_model=Items[LedgerEntry],
    responses={200: {"content": {"text/csv": {}}}},
)
def get_ledger(
    lab: TheLab,
    by: ledger.By = "user",
    since: Moment | None = None,
    form: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
) -> object:
    """Show what attempts cost in slot-seconds: useful and wasted, by user, experiment or week."""
    with lab.reading() as connection:
        rows = ledger.ledger(connection, by=by, now=database_now(connection), since=since)
    if form == "json":
        return items(rows)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(ledger.as_csv(rows, by))
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8")


@router.get("/doctor", response_model=Checkup)
def get_checkup(lab: TheLab) -> object:
    """Check the lab: database, broker, clocks, workers, slots, rows, leftovers, disks."""
    found = examine(lab)
    return {"level": worst(found), "findings": found}


@router.get("/catalog")
async def get_catalog() -> Catalog:
    """List the datasets, models and presets a spec may name."""
    datasets = {
        name: {**asdict(facts), "epsilon": format_radius(facts.epsilon)}
        for name, facts in DATASETS.items()
    }
    models = {
        name: {
            "title": facts.title,
            "stride": facts.stride,
            "smallest_size": facts.smallest_cam_size,
            "default_learning_rate": facts.default_learning_rate,
        }
        for name, facts in MODELS.items()
    }
    return Catalog(datasets=datasets, models=models, presets=PRESETS)


@router.get("/me", response_model=UserAnswer)
async def get_me(user: Reader) -> User:
    """Say whose token this is."""
    return user


@metrics.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def get_metrics(lab: TheLab) -> Response:
    """Show the queue, the reaper and the hosts in Prometheus' text format."""
    with lab.reading() as connection:
        counts = checkups.counts(connection, database_now(connection))
    return Response(exposition.written(counts), media_type=exposition.MEDIA_TYPE)


@health.get("/healthz")
async def healthz() -> Health:
    """Say that the process answers."""
    return Health(status="ok")


@health.get("/readyz", response_model=Health)
def readyz(lab: TheLab) -> object:
    """Say whether the database answers and is migrated; 503 if not."""
    try:
        with lab.reading() as connection:
            positions.queue(connection)
    except (OperationalError, InterfaceError, ProgrammingError):
        return _not_ready()
    return {"status": "ready"}


def _not_ready() -> Response:
    detail = "The database cannot be reached or is not migrated (python -m migrations upgrade)."
    return problem(503, "not-ready", detail)
