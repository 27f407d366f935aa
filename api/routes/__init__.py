"""One function a route; authentication stands before all of them."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Path
from pydantic import AfterValidator

from api.models import EXAMPLE_RUN
from domain import forms
from domain.ids import ID_PATTERN

PREFIX = "/api/v1"
WorkerName = Annotated[str, Path(pattern=forms.WORKER)]
RunId = Annotated[str, Path(pattern=ID_PATTERN, examples=[EXAMPLE_RUN])]


def _in_utc(moment: datetime) -> datetime:
    """Return a moment in UTC, which is what one without a zone is taken for."""
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is outside the years 1 to 9999 in UTC") from None


Moment = Annotated[datetime, AfterValidator(_in_utc)]
