"""The application: every route behind one door."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import anyio.to_thread
from fastapi import Depends, FastAPI, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles

import web
from api import pages, problems
from api.auth import Authentication
from api.bodies import JsonBodies
from api.edge import Edge
from api.lab import open_lab
from api.models import Problem
from api.queries import known_query
from api.routes import PREFIX, administration, checkpoints, results, runs, service
from api.settings import ApiSettings

DESCRIPTION = """Robust image classifiers on a shared queue, and numbers that survive review.

Send `Authorization: Bearer <token>`. Errors are `application/problem+json` with a stable `code`.
Radii are written as fractions of grey levels, such as `"8/255"`.
"""


def _problem_schema() -> dict[str, Any]:
    """Return the schema in one piece: its reference would point outside the document."""
    schema = Problem.model_json_schema()
    schema["properties"]["errors"]["items"] = schema.pop("$defs")["Misfit"]
    return schema


REFUSED: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "Refused; `code` and `errors` say why.",
        "content": {"application/problem+json": {"schema": _problem_schema()}},
    }
}
BEARER = HTTPBearer(auto_error=False, description="Documents the scheme; api.auth enforces it.")


def _operation_id(route: APIRoute) -> str:
    return route.name


@asynccontextmanager
async def _running(app: FastAPI) -> AsyncIterator[None]:
    lab = app.state.lab
    anyio.to_thread.current_default_thread_limiter().total_tokens = lab.settings.request_threads
    lab.doorbell.start()
    yield
    lab.doorbell.close()
    lab.engine.dispose()


def create_app(settings: ApiSettings) -> FastAPI:
    """Return the application on these settings. Nothing is connected until it serves."""
    app = FastAPI(
        title="PART Lab",
        version=version("partlab"),
        description=DESCRIPTION,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_operation_id,
        lifespan=_running,
        dependencies=[Depends(known_query)],
    )
    app.state.lab = open_lab(settings)
    problems.install(app)
    for module in (runs, results, checkpoints, service, administration):
        app.include_router(module.router, responses=REFUSED, dependencies=[Security(BEARER)])
    app.include_router(service.health)
    app.include_router(service.metrics, responses=REFUSED, dependencies=[Security(BEARER)])
    app.include_router(pages.router)
    app.mount("/static", StaticFiles(directory=web.STATIC), name="static")
    # The last added is the outermost.
    app.add_middleware(JsonBodies, prefix=PREFIX, raw={checkpoints.PATH})
    app.add_middleware(Authentication, lab=app.state.lab)
    app.add_middleware(
        Edge,
        allowed_hosts=settings.allowed_hosts,
        max_body_bytes=settings.max_body_bytes,
        uploads={checkpoints.PATH: settings.max_upload_bytes},
    )
    return app
