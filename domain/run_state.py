"""The states of a run and every transition between them.

::

    queued ──► running ──► succeeded
      │  ▲       │ │ │
      │  └───────┘ │ └───► failed
      │  (requeue) ▼
      │        cancelling ► cancelled, or succeeded / failed if it ended first
      └──────────────────► cancelled
"""

from collections.abc import Mapping
from enum import StrEnum


class RunState(StrEnum):
    """Where a run stands. The last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether no transition leaves this state."""
        return not TRANSITIONS[self]

    @property
    def holds_lease(self) -> bool:
        """Whether a worker owns the run in this state."""
        return self in {RunState.RUNNING, RunState.CANCELLING}


_S = RunState
TRANSITIONS: Mapping[RunState, frozenset[RunState]] = {
    _S.QUEUED: frozenset({_S.RUNNING, _S.CANCELLED, _S.FAILED}),
    _S.RUNNING: frozenset({_S.QUEUED, _S.CANCELLING, _S.SUCCEEDED, _S.FAILED}),
    _S.CANCELLING: frozenset({_S.CANCELLED, _S.SUCCEEDED, _S.FAILED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}


def may_move(source: RunState, target: RunState) -> bool:
    """Whether the table allows ``source`` to become ``target``."""
    return target in TRANSITIONS[source]
