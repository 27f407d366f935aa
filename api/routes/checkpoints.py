"""Upload weights that were trained elsewhere, to attack or to look at them."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from api import uploads
from api.auth import Submitter
from api.lab import TheLab
from api.models import Checkpoint, Items, items
from api.routes import PREFIX, RunId
from domain.architectures import OUTLINES
from domain.spec import Name
from store import checkpoints
from store.rows import CheckpointRow

PATH = f"{PREFIX}/checkpoints"
router = APIRouter(prefix=PREFIX, tags=["checkpoints"])
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The bytes of a safetensors file.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("/checkpoints", status_code=201, openapi_extra=BODY)
async def upload_checkpoint(
    request: Request,
    lab: TheLab,
    user: Submitter,
    response: Response,
    model: Annotated[str, Query(max_length=60, description=f"One of {', '.join(OUTLINES)}.")],
    name: Annotated[Name | None, Query(description="A label for people.")] = None,
) -> Checkpoint:
    """Upload the weights of a network as a safetensors file.

    It is looked through before anything is kept: 422 `checkpoint-refused` says what is wrong. The
    same file again is the same checkpoint.
    """
    row = await uploads.keep(lab, user, request.stream(), model=model, name=name)
    response.headers["Location"] = f"{PATH}/{row.id}"
    return Checkpoint.model_validate(row)


@router.get("/checkpoints", response_model=Items[Checkpoint])
def list_checkpoints(lab: TheLab) -> object:
    """List the newest uploaded checkpoints."""
    with lab.reading() as connection:
        return items(checkpoints.listing(connection))


@router.get("/checkpoints/{checkpoint_id}", response_model=Checkpoint)
def get_checkpoint(checkpoint_id: RunId, lab: TheLab) -> CheckpointRow:
    """Show an uploaded checkpoint."""
    with lab.reading() as connection:
        return checkpoints.get(connection, checkpoint_id)
