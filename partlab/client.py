"""The lab from Python.

::

    from partlab import Client

    with Client.from_environment() as lab:
        run = lab.submit({"preset": "part++", "data": {"dataset": "digits"}})
        for news in lab.follow(run.id):
            print(news)
        print(lab.evaluations(run.id)[-1].record.worst_case.accuracy)
"""

import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

from httpx_sse import EventSource, SSEError
from pydantic import ValidationError

from domain.compare import Comparison
from domain.ids import ID_PATTERN
from domain.results import AuditReport
from domain.run_state import RunState
from partlab import downloads, naming
from partlab.answers import (
    Answer,
    Artifact,
    Catalog,
    Checkpoint,
    Checkup,
    EvaluationAnswer,
    History,
    IssuedToken,
    Items,
    LedgerEntry,
    LogPage,
    Points,
    Position,
    Queue,
    Run,
    RunEvent,
    RunPage,
    Series,
    Token,
    User,
    UserGroup,
    UserLimits,
    Worker,
)
from partlab.credentials import find_credentials
from partlab.errors import ClientError, NotALab, UsageError
from partlab.news import Ended, News, news_of
from partlab.transport import FileBody, Patience, Transport, json_object, may_return, shaped

A = TypeVar("A", bound=Answer)

SERIES_A_REQUEST = 64
"""Names the lab takes in one request for histories."""
STREAM_SILENCE = 45.0
"""Seconds; the lab sends a comment every fifteen."""
LONG_POLL = 25.0
UPLOAD_SECONDS = 300.0
"""How long an uploaded file may stand still, or be looked through."""
ABSENCE = 120.0


class Client:
    """One lab, as one user. Every method raises a :class:`partlab.errors.ClientError`.

    Reads and submissions are repeated while the lab restarts; a submission carries an
    Idempotency-Key, so that it queues one run however often it is sent.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = 30.0,
        patience: Patience | None = None,
    ) -> None:
        self._transport = Transport(url, token, timeout=timeout, patience=patience or Patience())

    @classmethod
    def from_environment(cls, state: Path | None = None) -> Self:
        """Return a client of the lab this shell means; see :mod:`partlab.credentials`."""
        found = find_credentials(state)
        return cls(found.url, found.token)

    @property
    def url(self) -> str:
        """The lab's address."""
        return self._transport.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    # Runs

    def submit(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> Run:
        """Queue a run.

        spec: the submission; a preset and the dataset's defaults complete it.
        idempotency_key: the same key and spec return the same run again; made up if None.

        Raises SpecRefused with the wrong fields.
        """
        key = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        answer = self._transport.send("POST", "/runs", body=spec, headers=key, repeatable=True)
        return shaped(answer, Run)

    def expand(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the whole spec a submission stands for. Raises SpecRefused."""
        return json_object(
            self._transport.send("POST", "/specs/expand", body=spec, repeatable=True)
        )

    def get(self, run_id: str) -> Run:
        """Return a run. Raises NoSuchThing."""
        return self._transport.get(f"/runs/{_segment(run_id)}", Run)

    def wait(self, run_id: str, *, timeout: float | None = None) -> Run:
        """Return the run once it has ended.

        timeout: seconds after which it is returned as it is; None waits as long as it takes.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        run = self.get(run_id)
        while not run.state.is_terminal:
            left = LONG_POLL if deadline is None else deadline - time.monotonic()
            if left <= 0:
                break
            run = self._changed(run, min(LONG_POLL, left))
        return run

    def _changed(self, run: Run, seconds: float) -> Run:
        answer = self._transport.send(
            "GET",
            f"/runs/{run.id}",
            query={"wait": seconds},
            headers={"If-None-Match": f'"{run.version}"'},
            repeatable=True,
            timeout=seconds + 15,
        )
        return run if answer.status_code == 304 else shaped(answer, Run)

    def page(
        self,
        *,
        states: Sequence[RunState] = (),
        experiment: str | None = None,
        owner: str | None = None,
        name: str | None = None,
        text: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> RunPage:
        """Return a slice of the runs, newest first.

        name: the whole name. text: part of an id or name.
        """
        return self._transport.get(
            "/runs",
            RunPage,
            state=tuple(states),
            experiment=experiment,
            owner=owner,
            name=name,
            q=text,
            cursor=cursor,
            limit=limit,
        )

    def runs(self, **filters: Any) -> Iterator[Run]:  # noqa: ANN401 - those of `page`
        """Yield every run that :meth:`page` would list, newest first."""
        cursor: str | None = None
        while True:
            found = self.page(**filters, cursor=cursor)
            yield from found.items
            cursor = found.next_cursor
            if cursor is None:
                return

    def resolve(self, name: str) -> str:
        """Return the id of the run that ``name`` means; see :func:`partlab.naming.run_id`."""
        return naming.run_id(self, name)

    def resolve_checkpoint(self, name: str) -> str:
        """Return the id of uploaded weights, given as id or name. Raises UsageError."""
        return naming.checkpoint_id(self, name)

    def cancel(self, run_id: str) -> Run:
        """Cancel a queued run; ask a running one to stop. Raises Contradiction if it is over."""
        return shaped(self._transport.send("POST", f"/runs/{_segment(run_id)}/cancel"), Run)

    def pause(self, run_id: str) -> Run:
        """Keep a run from starting; a running one takes a checkpoint and waits."""
        return shaped(self._transport.send("POST", f"/runs/{_segment(run_id)}/pause"), Run)

    def resume(self, run_id: str) -> Run:
        """Let a paused run go on from its checkpoint."""
        return shaped(self._transport.send("POST", f"/runs/{_segment(run_id)}/resume"), Run)

    def retry(self, run_id: str) -> Run:
        """Queue a new run with the spec of one that is over. Raises Contradiction if it is not."""
        return shaped(self._transport.send("POST", f"/runs/{_segment(run_id)}/retry"), Run)

    def position(self, run_id: str) -> Position:
        """Say why a run waits."""
        return self._transport.get(f"/runs/{_segment(run_id)}/position", Position)

    # Weights from elsewhere

    def upload(self, file: Path, *, model: str, name: str | None = None) -> Checkpoint:
        """Upload the weights of a network; name the answer's ``id`` as ``source.checkpoint``.

        file: safetensors. The same file again is the same checkpoint.

        Raises Refused with what is wrong with it, UsageError when it cannot be read.
        """
        answer = self._transport.send(
            "POST",
            "/checkpoints",
            query={"model": model, "name": name},
            body=FileBody.of(file),
            repeatable=True,
            timeout=UPLOAD_SECONDS,
        )
        return shaped(answer, Checkpoint)

    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """Return the newest uploaded checkpoints, newest first."""
        return self._transport.get("/checkpoints", Items[Checkpoint]).items

    # What happens in a run

    def follow(self, run_id: str, *, absence: float = ABSENCE) -> Iterator[News]:
        """Yield what happens to a run, from its last log lines on, until it has ended.

        A lost connection is opened again and nothing is told twice.
        absence: seconds the lab may stay away. Raises Unreachable after that.
        """
        last: str | None = None
        failures, away = 0, 0.0
        while True:
            try:
                for identifier, news in self._listen(run_id, last):
                    last, failures, away = identifier or last, 0, 0.0
                    yield news
                    if isinstance(news, Ended):
                        return
            except ClientError as error:
                if away >= absence or not may_return(error):
                    raise
            away += self._transport.patience.pause(failures)
            failures += 1

    def _listen(self, run_id: str, last: str | None) -> Iterator[tuple[str | None, News]]:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
        path = f"/runs/{_segment(run_id)}/stream"
        with self._transport.stream(path, headers, silence=STREAM_SILENCE) as response:
            try:
                for event in EventSource(response).iter_sse():
                    if (news := news_of(event)) is not None:
                        yield event.id or None, news
            except (ValidationError, SSEError) as error:
                raise NotALab(f"{self.url} speaks another version of PART Lab.") from error

    def events(self, run_id: str, *, after: int = 0) -> tuple[RunEvent, ...]:
        """Return a run's changes of state, oldest first."""
        path = f"/runs/{_segment(run_id)}/events"
        return self._transport.get(path, Items[RunEvent], after=after).items

    def logs(self, run_id: str, *, after: int | None = None, limit: int = 500) -> LogPage:
        """Return the last lines of a run's log, or those after an id."""
        path = f"/runs/{_segment(run_id)}/logs"
        return self._transport.get(path, LogPage, after=after, limit=limit)

    def metrics(self, run_id: str) -> tuple[Series, ...]:
        """Return a run's series at a glance."""
        return self._list(f"/runs/{_segment(run_id)}/metrics", Series)

    def history(
        self, run_id: str, names: Sequence[str], *, max_points: int = 1000
    ) -> Mapping[str, Points]:
        """Return the points of series; where there are more, spikes are kept."""
        path = f"/runs/{_segment(run_id)}/metrics/history"
        found: dict[str, Points] = {}
        for start in range(0, len(names), SERIES_A_REQUEST):
            some = tuple(names[start : start + SERIES_A_REQUEST])
            found |= self._transport.get(path, History, name=some, max_points=max_points).series
        return found

    def evaluations(self, run_id: str) -> tuple[EvaluationAnswer, ...]:
        """Return a run's evaluations with their audits."""
        return self._list(f"/runs/{_segment(run_id)}/evaluations", EvaluationAnswer)

    def audits(self, run_id: str) -> tuple[AuditReport, ...]:
        """Apply the lab's present rules to a run's evaluations, newest first."""
        return self._transport.get(f"/runs/{_segment(run_id)}/audit", Items[AuditReport]).items

    def compare(self, run_id: str, other_id: str, *, force: bool = False) -> Comparison:
        """Pair two runs' newest evaluations, image by image. Raises Contradiction."""
        path = f"/runs/{_segment(run_id)}/comparison/{_segment(other_id)}"
        return self._transport.get(path, Comparison, force=force)

    def artifacts(self, run_id: str) -> tuple[Artifact, ...]:
        """Return a run's files."""
        return self._list(f"/runs/{_segment(run_id)}/artifacts", Artifact)

    def download(
        self, artifact: Artifact, folder: Path, *, report: downloads.Report | None = None
    ) -> Path:
        """Fetch a file below ``folder``, under its own name, and return where it is.

        report: told the number of bytes that are there.

        Raises DigestMismatch.
        """
        target = downloads.target_of(artifact, folder)
        return self.fetch(artifact, target, report=report)

    def fetch(
        self, artifact: Artifact, target: Path, *, report: downloads.Report | None = None
    ) -> Path:
        """Fetch a file to ``target``, as :meth:`download` does."""
        return downloads.fetch(self._transport, artifact, target, report=report)

    # The lab

    def queue(self) -> Queue:
        """Return the queue in numbers."""
        return self._transport.get("/queue", Queue)

    def workers(self) -> tuple[Worker, ...]:
        """Return the workers and what occupies them."""
        return self._list("/workers", Worker)

    def doctor(self) -> Checkup:
        """Have the lab checked: database, broker, clocks, workers, slots, rows, disks."""
        return self._transport.get("/doctor", Checkup)

    def ledger(self, by: str = "user", *, since: datetime | None = None) -> tuple[LedgerEntry, ...]:
        """Return what attempts cost, by `user`, `experiment`, `week` or `attempt`."""
        return self._transport.get("/ledger", Items[LedgerEntry], by=by, since=since).items

    def catalog(self) -> Catalog:
        """Return what a spec may name."""
        return self._transport.get("/catalog", Catalog)

    def me(self) -> User:
        """Return whose token this is. Raises NotSignedIn."""
        return self._transport.get("/me", User)

    # Administration

    def create_user(self, name: str, role: str = "member") -> User:
        """Add a user. Raises NotAllowed, Contradiction."""
        body = {"name": name, "role": role}
        return shaped(self._transport.send("POST", "/users", body=body), User)

    def issue_token(self, user: str, *, label: str = "token") -> IssuedToken:
        """Issue a token. Raises NotAllowed, NoSuchThing."""
        body = {"user": user, "label": label}
        return shaped(self._transport.send("POST", "/tokens", body=body), IssuedToken)

    def tokens(self) -> tuple[Token, ...]:
        """Return every token without its secret. Raises NotAllowed."""
        return self._list("/tokens", Token)

    def revoke_token(self, token_id: str) -> None:
        """End a token. Raises NotAllowed, NoSuchThing."""
        self._transport.send("DELETE", f"/tokens/{_segment(token_id)}")

    def users(self) -> tuple[UserLimits, ...]:
        """Return every user with share, group and quotas. Raises NotAllowed."""
        return self._list("/users", UserLimits)

    def limit(self, user: str, **changes: object) -> UserLimits:
        """Change a user's share, group or quotas (see `UserLimits`); None takes one away.

        Raises NotAllowed, NoSuchThing, Refused.
        """
        answer = self._transport.send("PATCH", f"/users/{_word(user)}", body=changes)
        return shaped(answer, UserLimits)

    def groups(self) -> tuple[UserGroup, ...]:
        """Return every group with its share. Raises NotAllowed."""
        return self._list("/groups", UserGroup)

    def put_group(self, name: str, share: float) -> UserGroup:
        """Make a group, or give it another share. Raises NotAllowed, Refused."""
        answer = self._transport.send("PUT", f"/groups/{_word(name)}", body={"share": share})
        return shaped(answer, UserGroup)

    def drain(self, worker: str, *, draining: bool = True) -> None:
        """Give a worker nothing more, or runs again. Raises NotAllowed, NoSuchThing."""
        action = "drain" if draining else "undrain"
        self._transport.send("POST", f"/workers/{_word(worker)}/{action}")

    def release(self, worker: str, kind: str, ordinal: int) -> None:
        """End a slot's quarantine. Raises NotAllowed, NoSuchThing."""
        path = f"/workers/{_word(worker)}/slots/{_word(kind)}/{ordinal}/release"
        self._transport.send("POST", path)

    def _list(self, path: str, shape: type[A]) -> tuple[A, ...]:
        return self._transport.get(path, Items[shape]).items  # type: ignore[valid-type]


def _word(name: str) -> str:
    """Write a name as a part of a path."""
    if not name:
        raise UsageError("A name is empty.")
    return quote(name, safe="")


def _segment(identifier: str) -> str:
    """Refuse what is no id before it becomes part of a path."""
    if not re.fullmatch(ID_PATTERN, identifier):
        raise UsageError(f"{identifier!r} is no id; ids have 18 letters and digits.")
    return identifier
