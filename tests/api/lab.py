"""A real API for tests: uvicorn on a free port over a fresh migrated database."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from sqlalchemy import Engine

from api.app import create_app
from api.settings import ApiSettings
from domain.bitmap import Bitmap
from domain.presets import expand
from domain.results import (
    AttackEvidence,
    AttackResult,
    AuditCheck,
    AuditFacts,
    AuditReport,
    Evaluation,
    ThreatModel,
    wilson_interval,
)
from domain.run_state import RunState
from store import artifacts, evaluations, fleet, logs, metrics, queue, runs, users
from store.blobs import Blobs
from store.engine import database_now, make_engine, writing
from store.rows import NewArtifact, RunRow, SlotSpec
from tests.store.databases import fresh_url

DIGITS: dict[str, Any] = {"preset": "part++", "data": {"dataset": "digits"}}
ROLES = {"root": "admin", "ada": "member", "bob": "member", "eve": "viewer"}
LEASE = timedelta(seconds=60)


@dataclass
class LiveLab:
    """A running API and the store beneath it."""

    url: str
    engine: Engine
    blobs: Blobs
    settings: ApiSettings
    app: Any
    tokens: Mapping[str, str]
    clients: list[httpx.Client] = field(default_factory=list)

    def client(self, user: str | None = "ada", **options: Any) -> httpx.Client:
        """An HTTP client with the token of ``user``, or without one."""
        headers = {"Authorization": f"Bearer {self.tokens[user]}"} if user else {}
        headers |= options.pop("headers", {})
        client = httpx.Client(base_url=self.url, headers=headers, timeout=30, **options)
        self.clients.append(client)
        return client

    def submit(self, user: str = "ada", **over: Any) -> RunRow:
        """Queue a run straight in the store."""
        with writing(self.engine) as c:
            return runs.submit(
                c, spec=expand({**DIGITS, **over}), owner=user, now=database_now(c)
            ).run

    def start(self, user: str = "ada", **over: Any) -> RunRow:
        """Queue a run before all others and claim it, as a worker would."""
        queued = self.submit(user, **{"priority": 50, **over})
        with writing(self.engine) as c:
            now = database_now(c)
            slots = [SlotSpec("cpu", index, "a test CPU") for index in range(100)]
            fleet.register_worker(c, name="host-a", host="a", pid=1, offered=slots, now=now)
            claim = queue.claim(c, worker="host-a", now=now, lease=LEASE)
        assert claim is not None
        assert claim.run.id == queued.id
        return claim.run

    def finish(self, run: RunRow, to: RunState = RunState.SUCCEEDED, **columns: Any) -> RunRow:
        """End a started run."""
        with writing(self.engine) as c:
            return runs.transition(
                c,
                run.id,
                to=to,
                now=database_now(c),
                reason="finished",
                attempt=run.attempt,
                columns=columns,
            )

    def keep_file(self, run: RunRow, name: str, content: bytes, folder: Path, **how: Any) -> str:
        """Store a file for a started run; return its artifact id."""
        file = folder / "file"
        file.write_bytes(content)
        key = self.blobs.put(file, run_id=run.id, attempt=run.attempt)
        new = NewArtifact(
            name=name,
            kind=how.pop("kind", "checkpoint"),
            media_type=how.pop("media_type", "application/octet-stream"),
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            key=key,
            **how,
        )
        with writing(self.engine) as c:
            return artifacts.register(c, run.id, run.attempt, new, now=database_now(c)).id

    def log(self, run: RunRow, *messages: str, level: str = "info") -> None:
        """Let a started run speak."""
        with writing(self.engine) as c:
            logs.append(c, run.id, run.attempt, [(level, m) for m in messages], database_now(c))

    def measure(self, run: RunRow, batch: int, steps: list[int], **values: list[float]) -> None:
        """Add points to a started run's series; ``train_loss`` stands for ``train/loss``."""
        named = {name.replace("_", "/", 1): column for name, column in values.items()}
        with writing(self.engine) as c:
            metrics.append(c, run.id, run.attempt, batch=batch, steps=steps, values=named)

    def advance(self, run: RunRow, **progress: Any) -> None:
        """Tell a started run's progress."""
        with writing(self.engine) as c:
            runs.record_progress(c, run.id, run.attempt, progress, database_now(c))

    def evaluate(self, run: RunRow, evaluation: Evaluation) -> None:
        """Keep an evaluation of a started run."""
        with writing(self.engine) as c:
            evaluations.record(c, run.id, run.attempt, evaluation, database_now(c))


def serve(app: Any) -> tuple[uvicorn.Server, threading.Thread, str]:
    """Start uvicorn in a thread; stop it by ``server.should_exit``."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    return server, thread, f"http://127.0.0.1:{port}"


@contextmanager
def live_lab(kind: str, folder: Path, **settings: Any) -> Iterator[LiveLab]:
    """An API over a fresh database of that kind, with one user a role, and stopped afterwards."""
    with fresh_url(kind) as database_url:
        options = ApiSettings(
            state=folder / "state",
            database_url=database_url,
            **{"watch_seconds": 0.02, "heartbeat_seconds": 0.2, **settings},
        )
        engine = make_engine(database_url)
        with writing(engine) as c:
            now = datetime.now(UTC)
            for name, role in ROLES.items():
                users.create_user(c, name, role, now)  # type: ignore[arg-type]
            tokens = {name: users.issue_token(c, name, label="test", now=now) for name in ROLES}
        app = create_app(options)
        server, thread, url = serve(app)
        lab = LiveLab(url, engine, Blobs(options.artifacts), options, app, tokens)
        yield lab
        for client in lab.clients:
            client.close()
        server.should_exit = True
        thread.join(timeout=20)
        engine.dispose()


def attack(label: str, correct: int, n: int = 360, **how: Any) -> AttackResult:
    """A plausible attack's result."""
    clean = label == "clean"
    evidence = AttackEvidence(
        max_abs_delta=0.2,
        moved_fraction=1.0,
        lowest_pixel=0.0,
        highest_pixel=1.0,
        finite=True,
        zero_gradient_fraction=0.0,
    )
    return AttackResult(
        label=label,
        kind=label.split("-")[0],
        threat=None if clean else ThreatModel(epsilon="51/255"),  # type: ignore[arg-type]
        n=n,
        correct=correct,
        accuracy=correct / n,
        interval=wilson_interval(correct, n),
        seconds=1.5,
        outcomes=Bitmap.of(i < correct for i in range(n)).encode(),
        evidence=None if clean else evidence,
        **how,
    )


def evaluation(verdict: str = "sound", *, fails: bool = False) -> Evaluation:
    """A plausible evaluation."""
    checks = [
        AuditCheck(
            name="attacks stay in the budget",
            severity="broken",
            outcome="holds",
            detail="largest |x_adv - x| 0.2000 of 0.2000",
            advice="clip the perturbation",
        ),
        AuditCheck(
            name="mask alive",
            severity="suspicious",
            outcome="fails" if fails else "holds",
            detail="72 % of pixels have S > 0.95" if fails else "std of the radius 0.0061",
            advice="lower tau, or use the centred sigmoid",
        ),
        AuditCheck(
            name="no catastrophic overfitting",
            severity="broken",
            outcome="does-not-apply",
            detail="trained at another radius",
            advice="stop earlier",
        ),
    ]
    return Evaluation(
        weights="best",
        averaged=True,
        model_sha256="a" * 64,
        data_sha256="b" * 64,
        sample_ids_sha256="c" * 64,
        n=360,
        results=(
            attack("clean", 347),
            attack("fgsm", 262, steps=1),
            attack("pgd-10", 231, steps=10, restarts=1),
            attack("pgd-20", 225, steps=20, restarts=1),
            attack("cw-20", 219, steps=20, restarts=2),
        ),
        worst_case=attack("worst-case", 214),
        audit=AuditReport(verdict=verdict, checks=tuple(checks)),  # type: ignore[arg-type]
    )


def judged(correct: int = 219, *, epsilon: str = "51/255") -> Evaluation:
    """An evaluation that the present rules can be applied to again."""
    threat = ThreatModel(epsilon=epsilon)  # type: ignore[arg-type]
    found = evaluation()
    results = [
        attack("clean", 347),
        attack("pgd-20", correct + 6, steps=20).model_copy(update={"threat": threat}),
        attack("cw-20", correct, steps=20).model_copy(update={"threat": threat}),
    ]
    worst = attack("worst-case", correct).model_copy(update={"threat": threat})
    facts = AuditFacts(dataset="digits", model="small-cnn", seen_in_training=0, mismatches=0)
    changed = {"results": tuple(results), "worst_case": worst, "facts": facts}
    return found.model_copy(update=changed)


def events(response: httpx.Response) -> Iterator[tuple[str, str, Any]]:
    """(name, id, data) of each server-sent event until the stream ends."""
    found: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(":")
            found[name] = value.strip()
        elif "event" in found:
            yield found["event"], found["id"], json.loads(found["data"])
            found = {}
        else:
            found = {}
