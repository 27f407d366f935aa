"""Submit, find, follow, cancel and retry runs."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Query, Response
from fastapi.responses import StreamingResponse

from api import actions, live
from api.auth import Reader, Submitter
from api.etags import etag, etag_matches, required
from api.lab import Lab, TheLab
from api.models import Event, Items, JsonObject, PositionAnswer, Run, RunPage, items
from api.routes import PREFIX, RunId
from api.shown import one, shown
from domain import forms
from domain.ids import ID_PATTERN
from domain.run_state import RunState
from domain.spec import Name
from store import history, positions, runs
from store.engine import database_now
from store.rows import EventRow, Position, RunRow

router = APIRouter(prefix=PREFIX, tags=["runs"])

EXAMPLES: dict[str, Any] = {
    "part++": {
        "summary": "PART++ on the bundled digits",
        "value": {"preset": "part++", "data": {"dataset": "digits"}},
    },
    "overrides": {
        "summary": "A preset with some values of your own",
        "value": {
            "preset": "part",
            "data": {"dataset": "cifar10"},
            "model": {"name": "resnet18"},
            "method": {"mask": {"tau": 4}},
            "resources": {"gpus": 1},
        },
    },
    "evaluate": {
        "summary": "Attack the checkpoint of a finished run",
        "value": {
            "kind": "evaluate",
            "source": {"run": "01kb7qz3h4m8x2v9ap"},
            "evaluation": {"attacks": [{"kind": "pgd", "steps": 50}, {"kind": "cw"}]},
        },
    },
}
Submission = Annotated[dict[str, Any], Body(openapi_examples=EXAMPLES)]
IfNoneMatch = Annotated[str | None, Header(description="The ETag you have.")]
PlainText = forms.SEARCH


@router.post("/runs", status_code=202)
def submit_run(
    body: Submission,
    lab: TheLab,
    user: Submitter,
    response: Response,
    idempotency_key: Annotated[str | None, Header(pattern=forms.KEY)] = None,
) -> Run:
    """Queue a run.

    A preset and the dataset's defaults complete the body. With an `Idempotency-Key` the same
    request sent again returns the same run.
    """
    return _accepted(lab, actions.submit(lab, user, body, idempotency_key), response)


def _accepted(lab: Lab, run: RunRow, response: Response) -> Run:
    response.headers["Location"] = f"{PREFIX}/runs/{run.id}"
    return _changed(lab, run, response)


def _changed(lab: Lab, run: RunRow, response: Response) -> Run:
    with lab.reading() as connection:
        (answer,) = shown(connection, [run])
    return _tagged(answer, response)


def _tagged(run: Run, response: Response) -> Run:
    response.headers["ETag"] = etag(run.version)
    return run


@router.post("/specs/expand")
def expand_spec(body: Submission, lab: TheLab, user: Reader) -> JsonObject:  # noqa: ARG001
    """Show the whole spec a submission stands for, or what is wrong with it, without running it."""
    with lab.reading() as connection:
        return actions.expanded(connection, body).model_dump(mode="json")


@router.get("/runs")
def list_runs(
    lab: TheLab,
    state: Annotated[tuple[RunState, ...], Query(description="Repeat for several.")] = (),
    experiment: Annotated[Name | None, Query()] = None,
    owner: Annotated[str | None, Query(pattern=PlainText)] = None,
    name: Annotated[str | None, Query(pattern=PlainText, description="The whole name.")] = None,
    q: Annotated[str | None, Query(pattern=PlainText, description="Part of an id or name.")] = None,
    cursor: Annotated[str | None, Query(pattern=ID_PATTERN)] = None,
    limit: Annotated[int, Query(ge=1, le=runs.MAX_PAGE)] = 50,
) -> RunPage:
    """List runs, newest first."""
    with lab.reading() as connection:
        page = runs.find(
            connection,
            states=state,
            experiment=experiment,
            owner=owner,
            name=name,
            text=q,
            cursor=cursor,
            limit=limit,
        )
        return RunPage(items=shown(connection, page.items), next_cursor=page.next_cursor)


@router.get("/runs/{run_id}", responses={304: {"description": "The version you have is current."}})
async def get_run(
    run_id: RunId,
    lab: TheLab,
    response: Response,
    if_none_match: IfNoneMatch = None,
    wait: Annotated[
        float,
        Query(ge=0, le=60, allow_inf_nan=False, description="Seconds to wait for another version."),
    ] = 0,
) -> Run:
    """Show a run. With `wait`, answer when it changes or has ended, or when that time is over."""
    if wait:
        await live.changed(lab, run_id, if_none_match, wait)
    run = await lab.look(one, run_id)
    if etag_matches(if_none_match, run.version):
        return Response(status_code=304, headers={"ETag": etag(run.version)})  # type: ignore[return-value]
    return _tagged(run, response)


@router.post("/runs/{run_id}/cancel")
def cancel_run(
    run_id: RunId,
    lab: TheLab,
    user: Submitter,
    response: Response,
    if_match: Annotated[str | None, Header(description="Only at this ETag.")] = None,
) -> Run:
    """Cancel a queued run at once; ask a running one to stop."""
    return _changed(lab, actions.cancel(lab, user, run_id, versions=required(if_match)), response)


@router.post("/runs/{run_id}/pause")
def pause_run(run_id: RunId, lab: TheLab, user: Submitter, response: Response) -> Run:
    """Keep a queued run from starting; let a running one take a checkpoint and wait."""
    return _changed(lab, actions.hold(lab, user, run_id, held=True), response)


@router.post("/runs/{run_id}/resume")
def resume_run(run_id: RunId, lab: TheLab, user: Submitter, response: Response) -> Run:
    """Let a paused run go on from its checkpoint."""
    return _changed(lab, actions.hold(lab, user, run_id, held=False), response)


@router.post("/runs/{run_id}/retry", status_code=202)
def retry_run(run_id: RunId, lab: TheLab, user: Submitter, response: Response) -> Run:
    """Queue a new run with the spec of a finished one."""
    return _accepted(lab, actions.retry(lab, user, run_id), response)


@router.get("/runs/{run_id}/events", response_model=Items[Event])
def list_run_events(
    run_id: RunId,
    lab: TheLab,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
) -> object:
    """List a run's changes of state, oldest first."""
    with lab.reading() as connection:
        runs.version(connection, run_id)
        found: list[EventRow] = history.events(connection, run_id, after=after, limit=limit)
    return items(found)


@router.get("/runs/{run_id}/position", response_model=PositionAnswer)
def get_run_position(run_id: RunId, lab: TheLab) -> Position:
    """Say why a run waits and when it may start."""
    with lab.reading() as connection:
        return positions.position(connection, run_id, database_now(connection))


@router.get(
    "/runs/{run_id}/stream",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def stream_run(
    run_id: RunId,
    lab: TheLab,
    last_event_id: Annotated[str | None, Header()] = None,
    since: Annotated[str | None, Query(alias="last_event_id")] = None,
) -> StreamingResponse:
    """Follow a run: events `state`, `progress`, `log`, `metrics`, and `end` when it is over.

    Send the last id you have as `Last-Event-ID` (or `?last_event_id=`) to miss nothing.
    """
    await lab.look(runs.version, run_id)
    news = live.stream(lab, run_id, live.Cursor.parse(last_event_id or since))
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(news, media_type="text/event-stream", headers=headers)
