"""What a person calls a run or uploaded weights, turned into an id."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from domain.ids import ID_PATTERN
from partlab.answers import Run
from partlab.errors import UsageError

if TYPE_CHECKING:
    from partlab.client import Client

LATEST = "latest"
AMBIGUOUS = 6
"""Runs that are looked at to tell which a name may mean; all but the last are shown."""


def run_id(client: "Client", name: str) -> str:
    """Return the id that ``name`` means.

    name: an id; ``latest``, one's newest run; a run's name; or the beginning or end of an id.
    A name or a part of an id must be that of one run alone, and a name comes first.

    Raises UsageError.
    """
    if not name.strip():
        raise UsageError("Name a run: its id, a part of it, its name, or `latest`.")
    if name == LATEST:
        return _newest_id(client)
    if re.fullmatch(ID_PATTERN, name):
        return name
    named = client.page(name=name, limit=AMBIGUOUS).items
    return _only_one(name, named or tuple(_with_part_of_id(client, name)))


def _newest_id(client: "Client") -> str:
    newest = client.page(owner=client.me().name, limit=1).items
    if not newest:
        raise UsageError("You have no run yet; start one with `part submit`.")
    return newest[0].id


def _with_part_of_id(client: "Client", text: str) -> Iterator[Run]:
    part = text.lower()
    if re.fullmatch(r"[0-9a-z]{1,18}", part):
        # The lab looks for the text in names, too: what fits may be on a later page.
        runs = client.runs(text=part, limit=200)
        fits = (r for r in runs if r.id.startswith(part) or r.id.endswith(part))
        yield from islice(fits, AMBIGUOUS)


def _only_one(name: str, runs: Sequence[Run]) -> str:
    """Return the id of the only run that a name may mean. Raises UsageError."""
    if not runs:
        raise UsageError(
            f"No run is named {name!r}, and no run's id begins or ends with it; `part ls` lists "
            "them."
        )
    if len(runs) > 1:
        shown = "".join(f"\n  {run.id}  {run.title}, {run.state}" for run in runs[: AMBIGUOUS - 1])
        more = "\n  and more" if len(runs) == AMBIGUOUS else ""
        raise UsageError(f"{name!r} may be any of these runs; write an id:{shown}{more}")
    return runs[0].id


def checkpoint_id(client: "Client", name: str) -> str:
    """Return the id of uploaded weights, given as id or name. Raises UsageError."""
    if re.fullmatch(ID_PATTERN, name):
        return name
    named = [checkpoint.id for checkpoint in client.checkpoints() if checkpoint.name == name]
    if len(named) != 1:
        raise UsageError(
            f"{name!r} must be the id or the name of one upload; of that name: "
            f"{', '.join(named) or 'none'}. `part checkpoints` lists them."
        )
    return named[0]
