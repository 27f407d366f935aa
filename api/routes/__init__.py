"""One function a route; authentication stands before all of them."""

from typing import Annotated

from fastapi import Path

from api.models import EXAMPLE_RUN
from domain import forms
from domain.ids import ID_PATTERN

PREFIX = "/api/v1"
WorkerName = Annotated[str, Path(pattern=forms.WORKER)]
RunId = Annotated[str, Path(pattern=ID_PATTERN, examples=[EXAMPLE_RUN])]
