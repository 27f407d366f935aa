"""The lab itself: queue, workers, catalogue, who I am, health."""

from dataclasses import asdict

from fastapi import APIRouter
from sqlalchemy.exc import InterfaceError, OperationalError, ProgrammingError
from starlette.responses import Response

from api.auth import Reader
from api.lab import TheLab
from api.models import Catalog, Health, Items, QueueAnswer, UserAnswer, WorkerAnswer, items
from api.problems import problem
from api.routes import PREFIX
from domain.catalog import DATASETS, MODELS
from domain.recipes import PRESETS
from domain.units import format_radius
from store import queue
from store.rows import QueueView, User

router = APIRouter(prefix=PREFIX, tags=["lab"])
health = APIRouter(tags=["health"])


@router.get("/queue", response_model=QueueAnswer)
def get_queue(lab: TheLab) -> QueueView:
    """Show the queue in numbers."""
    with lab.reading() as connection:
        return queue.queue(connection)


@router.get("/workers", response_model=Items[WorkerAnswer])
def list_workers(lab: TheLab) -> object:
    """List workers, their slots and what occupies them."""
    with lab.reading() as connection:
        return items(queue.all_workers(connection))


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
            "default_learning_rate": facts.default_learning_rate,
        }
        for name, facts in MODELS.items()
    }
    return Catalog(datasets=datasets, models=models, presets=PRESETS)


@router.get("/me", response_model=UserAnswer)
async def get_me(user: Reader) -> User:
    """Say whose token this is."""
    return user


@health.get("/healthz")
async def healthz() -> Health:
    """Say that the process answers."""
    return Health(status="ok")


@health.get("/readyz", response_model=Health)
def readyz(lab: TheLab) -> object:
    """Say whether the database answers and is migrated; 503 if not."""
    try:
        with lab.reading() as connection:
            queue.queue(connection)
    except (OperationalError, InterfaceError, ProgrammingError):
        return _not_ready()
    return {"status": "ready"}


def _not_ready() -> Response:
    detail = "The database cannot be reached or is not migrated (python -m migrations upgrade)."
    return problem(503, "not-ready", detail)
