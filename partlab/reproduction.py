"""The tables of the PART++ report, run anew: each method trained alike and attacked alike.

Table 1 sets PART++ beside what it builds on; Table 2 takes its ensemble apart. The report's own
figures came from an evaluation that never attacked, so nothing here is compared with them.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from domain import report
from domain.run_state import RunState
from partlab.answers import Run
from partlab.client import Client
from partlab.errors import ClientError
from partlab.specfile import apply_settings
from partlab.watching import see_through

THREE = ("grad-cam", "grad-cam++", "score-cam")
NAMES = ("Grad-CAM", "Grad-CAM++", "Score-CAM")
DOMINANT = 2.0
"""How much the dominant map counts; the others count 1."""


def _ensemble(*members: str, **how: object) -> Mapping[str, Any]:
    return {"preset": "part++", "method": {"cam": {"members": list(members), **how}}}


def _dominated(by: str) -> Mapping[str, Any]:
    return _ensemble(*THREE, weights=[DOMINANT if one == by else 1.0 for one in THREE])


TABLES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "table-1": {
        "PGD-AT": {"preset": "pgd-at"},
        "PART": {"preset": "part"},
        "PART++": {"preset": "part++"},
    },
    "table-2": {
        **{name: _ensemble(cam) for name, cam in zip(NAMES, THREE, strict=True)},
        "equal ensemble": _ensemble(*THREE),
        **{f"{name} dominant": _dominated(cam) for name, cam in zip(NAMES, THREE, strict=True)},
    },
}
"""Rows by name: what differs from row to row."""


@dataclass(frozen=True)
class Reproduced:
    """The runs of a table that ended, and the rows of those that succeeded."""

    runs: tuple[Run, ...]
    rows: tuple[report.Row, ...]

    @property
    def shortcomings(self) -> list[str]:
        """What keeps the table from being trusted; nothing if all is well."""
        lost = [f"{r.title} {r.state.value}" for r in self.runs if r.state != RunState.SUCCEEDED]
        return lost + [
            f"{row.name} is {row.verdict}" for row in self.rows if row.verdict != "sound"
        ]


class Untrustworthy(ClientError):
    """A row of the table is missing, or its audit objects."""


def submissions(table: str, settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what is submitted, by row."""
    shared = {
        "experiment": table,
        "data": {"dataset": "digits"},
        "evaluation": {"suite": "report"},
    }
    return {
        name: apply_settings({**shared, **own, "name": name}, settings)
        for name, own in TABLES[table].items()
    }


def reproduce(
    client: Client, table: str, settings: Sequence[str], out: Console, look: Callable[[], None]
) -> Reproduced:
    """Run a table's rows, show them until they are over, and return what was found.

    The same table with the same settings finds its runs again, so an interrupted one goes on.
    """
    runs = [_submit(client, body) for body in submissions(table, settings).values()]
    ended = see_through(client, runs, out, look)
    rows = [_row(client, run) for run in ended if run.state == RunState.SUCCEEDED]
    return Reproduced(tuple(ended), tuple(rows))


def _submit(client: Client, body: Mapping[str, Any]) -> Run:
    """Find the run of an earlier time, unless it was lost."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    run = client.submit(body, idempotency_key=f"reproduce-{digest}")
    lost = run.state in (RunState.FAILED, RunState.CANCELLED)
    return client.retry(run.id) if lost else run


def _row(client: Client, run: Run) -> report.Row:
    return report.row(run.title, run.id, client.evaluations(run.id)[0].record)
