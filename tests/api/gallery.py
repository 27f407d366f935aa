"""A lab with one run of every kind in every state, and whatever else a page may have to show."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

from api import actions
from domain.corruptions import CorruptionName
from domain.errors import FailureClass
from domain.events import ArtifactSaved, Progress
from domain.results import CorruptionResult, Evaluation, Surrogate, ThreatModel, Verdict
from domain.results import wilson_interval as wilson
from domain.run_state import RunState
from domain.series import MEMBERS, SERIES
from domain.weights import Source
from store import artifacts, fleet, metrics, queue, runs, tables
from store.engine import database_now, writing
from store.rows import RunRow, SlotSpec, User, Vitals
from tests import making_weights
from tests.api.lab import DIGITS, LEASE, LiveLab, attack, evaluation, live_lab
from worker.failures import out_of_memory, unexpected

PHASES = get_args(Progress.model_fields["phase"].annotation)
CLASSES = get_args(FailureClass)
FILES = get_args(ArtifactSaved.model_fields["kind"].annotation)
HTML = "</title><script>alert(1)</script><b>&amp;'\"{{ 7*7 }}"
NAMES = {
    "long": "w" * 80,
    "unicode": "ρόβουστ 鲁棒 🦾 ﷽",
    "right-to-left": "\N{ARABIC LETTER ALEF}\N{ARABIC LETTER BEH} \N{HEBREW LETTER ALEF}" * 9,
    "html": HTML[:80],
}
SUMMARY: Mapping[str, Any] = {
    "clean_accuracy": 347 / 360,
    "pgd20_robust_accuracy": 225 / 360,
    "worst_case_robust_accuracy": 214 / 360,
    "verdict": "sound",
    "weights": "best",
    "averaged": True,
    "model_sha256": "a" * 64,
    "n": 360,
    "epochs": 30,
    "seconds": 74.2,
}
PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c63680000000200017a5e2e2e0000000049454e44ae426082"
)


@dataclass
class Gallery:
    """The lab, and the runs that it shows by what they show."""

    lab: LiveLab
    folder: Path
    runs: dict[str, RunRow] = field(default_factory=dict)

    # -- how a run comes to be ----------------------------------------------------------------

    def submit(self, raw: Mapping[str, Any], **over: Any) -> RunRow:
        """Queue a run as the API does."""
        return actions.submit(self.lab.app.state.lab, User("ada", "member"), {**raw, **over})

    def start(self, raw: Mapping[str, Any], **over: Any) -> RunRow:
        """Queue a run before all others and claim it, as a worker would."""
        queued = self.submit(raw, priority=50, **over)
        with writing(self.lab.engine) as c:
            claim = queue.claim(c, worker="host-a", now=database_now(c), lease=LEASE)
        assert claim is not None
        assert claim.run.id == queued.id
        return claim.run

    def train(self, what: str, **over: Any) -> RunRow:
        """Start a training run with something to show."""
        self.runs[what] = self.start(DIGITS, **over)
        return self.runs[what]

    def succeed(self, run: RunRow, summary: Mapping[str, Any] | None = None) -> None:
        """End a run well."""
        if summary is not None:
            with writing(self.lab.engine) as c:
                runs.record_summary(c, run.id, run.attempt, summary)
        self.lab.finish(run)

    def measure(self, run: RunRow, steps: range, **values: list[float]) -> None:
        """Add points to series of any name."""
        with writing(self.lab.engine) as c:
            metrics.append(
                c, run.id, run.attempt, batch=len(steps), steps=list(steps), values=values
            )

    def keep(self, run: RunRow, name: str, kind: str = "table", **how: Any) -> None:
        """Store a file."""
        self.lab.keep_file(run, name, how.pop("content", b"x"), self.folder, kind=kind, **how)

    # -- states -------------------------------------------------------------------------------

    def queued(self, raw: Mapping[str, Any]) -> RunRow:
        return self.submit(raw)

    def paused(self, raw: Mapping[str, Any]) -> RunRow:
        return self._hold(self.submit(raw))

    def waiting(self, raw: Mapping[str, Any]) -> RunRow:
        return self.submit(raw, after=[self.runs["source"].id, self.runs["stays"].id])

    def lost(self, raw: Mapping[str, Any]) -> RunRow:
        """A run in the queue again."""
        run = self.start(raw)
        with writing(self.lab.engine) as c:
            now = database_now(c) + timedelta(hours=1)
            queue.requeue(c, run.id, 1, now=now, reason="its host went away", max_attempts=3)
        return run

    def starting(self, raw: Mapping[str, Any]) -> RunRow:
        return self.start(raw)

    def running(self, raw: Mapping[str, Any]) -> RunRow:
        run = self.start(raw)
        self.lab.log(run, "the images are read")
        steps = {"done": 3, "total": 10, "unit": "step", "epoch": 2, "epochs": 4, "detail": None}
        self.lab.advance(run, phase="train", images_per_second=128.0, **steps)
        return run

    def pausing(self, raw: Mapping[str, Any]) -> RunRow:
        return self._hold(self.running(raw))

    def cancelling(self, raw: Mapping[str, Any]) -> RunRow:
        return self._cancel(self.running(raw))

    def cancelled(self, raw: Mapping[str, Any]) -> RunRow:
        run = self.cancelling(raw)
        self.lab.finish(run, RunState.CANCELLED)
        return run

    def cancelled_in_the_queue(self, raw: Mapping[str, Any]) -> RunRow:
        return self._cancel(self.submit(raw))

    def failed(self, raw: Mapping[str, Any]) -> RunRow:
        run = self.start(raw)
        try:
            raise ValueError(HTML)  # noqa: TRY301 - a real traceback
        except ValueError as error:
            failure = unexpected(error).model_dump(mode="json", exclude={"type"})
        self.lab.finish(run, RunState.FAILED, failure=failure)
        return run

    def succeeded(self, raw: Mapping[str, Any]) -> RunRow:
        run = self.start(raw)
        self.succeed(run, {"images": 6} if run.kind == "visualise" else None)
        return run

    def evaluated(self, raw: Mapping[str, Any]) -> RunRow:
        run = self.start(raw)
        self.lab.log(run, "epoch 1", HTML)
        self.keep(run, "checkpoints/best.safetensors", "checkpoint", role="best", epoch=3)
        self.keep(run, "figures/budget.png", "figure", media_type="image/png", content=PICTURE)
        self.measure(run, range(0, 40, 10), **{"train/loss": [2.0, 1.5, 1.2, 1.1]})
        with writing(self.lab.engine) as c:
            facts = {"deterministic": True, "threads": 2, "torch": "2.9", "classes": None}
            runs.record_facts(c, run.id, run.attempt, facts)
        self.lab.evaluate(run, evaluation("suspicious", fails=True))
        self.succeed(run, {**SUMMARY, "verdict": "suspicious"})
        return run

    def retried(self, raw: Mapping[str, Any]) -> RunRow:
        run = self._cancel(self.submit(raw))
        return actions.retry(self.lab.app.state.lab, User("ada", "member"), run.id)

    def _hold(self, run: RunRow) -> RunRow:
        return actions.hold(self.lab.app.state.lab, User("ada", "member"), run.id, held=True)

    def _cancel(self, run: RunRow) -> RunRow:
        return actions.cancel(self.lab.app.state.lab, User("ada", "member"), run.id)


STATES: tuple[Callable[[Gallery, Mapping[str, Any]], RunRow], ...] = (
    *(Gallery.queued, Gallery.paused, Gallery.waiting, Gallery.lost, Gallery.retried),
    *(Gallery.starting, Gallery.running, Gallery.pausing, Gallery.cancelling),
    *(Gallery.cancelled, Gallery.cancelled_in_the_queue, Gallery.failed),
    *(Gallery.succeeded, Gallery.evaluated),
)


def kinds(gallery: Gallery) -> dict[str, dict[str, Any]]:
    """Every kind of run there is, as its client would submit it."""
    source = {"run": gallery.runs["source"].id}
    weights = gallery.lab.client().post(
        "/api/v1/checkpoints", params={"model": "small-cnn"}, content=making_weights.file()
    )
    uploaded = {"checkpoint": weights.json()["id"]}
    both = [{"kind": "transfer", "source": source}, {"kind": "transfer", "source": uploaded}]
    data = {"data": {"dataset": "digits"}}
    return {
        "train": {**DIGITS, "name": "a training run", "tags": ["paper", "rev-2"]},
        "ranks": {**DIGITS, "resources": {"gpus": 2}},
        "evaluate": {"kind": "evaluate", "source": source},
        "visualise": {"kind": "visualise", "source": source},
        "uploaded": {"kind": "evaluate", "source": uploaded, **data},
        "uploaded-visualise": {"kind": "visualise", "source": uploaded, **data},
        "transfer": {"kind": "evaluate", "source": source, "evaluation": {"attacks": both}},
    }


@contextlib.contextmanager
def gallery(folder: Path) -> Iterator[Gallery]:
    """Open such a lab, on SQLite."""
    with live_lab("sqlite", folder) as lab:
        made = Gallery(lab, folder)
        hosts(made)
        made.runs["source"] = made.start(DIGITS)
        made.keep(made.runs["source"], "checkpoints/best.safetensors", "checkpoint", role="best")
        made.succeed(made.runs["source"], SUMMARY)
        made.runs["stays"] = made.start(DIGITS, name="stays")
        for kind, raw in kinds(made).items():
            for state in STATES:
                made.runs[f"{kind} {state.__name__}"] = state(made, raw)
        for scene in SCENES:
            scene(made)
        yield made


# -- whatever else there may be to see ---------------------------------------------------------


def hosts(made: Gallery) -> None:
    """Workers of every condition, and slots that are given to nobody for every reason."""
    slots = [SlotSpec("cpu", i, "a test CPU") for i in range(90)]
    slots += [SlotSpec("gpu", i, f"GPU {i}", memory=80 << 30) for i in range(16)]
    foreign = {0: "python (pid 7), 12 GiB"}
    few = [SlotSpec("gpu", i, "an odd GPU", queue="odd") for i in range(3)]
    with writing(made.lab.engine) as c:
        now = database_now(c)
        fleet.register_worker(c, name="host-a", host="a", pid=1, offered=slots, now=now)
        for name in ("silent", "draining", "odd", "w" * 60):
            seen = now - timedelta(minutes=10) if name == "silent" else now
            fleet.register_worker(c, name=name, host=name, pid=1, offered=few, now=seen)
        fleet.drain(c, "draining", draining=True)
        vitals = Vitals(clock_skew=9.0, disk_free=1, disk_total=100, orphans=2)
        fleet.worker_alive(c, "odd", busy_slots=[], now=now, foreign=foreign, vitals=vitals)


def losses(made: Gallery) -> None:
    """Attempts of several users lost on one slot until it is in quarantine, and one too many."""
    resources = {"queue": "odd", "gpus": 1}
    for user in ("ada", "bob", "ada"):
        run = made.lab.submit(user, priority=90, resources=resources)
        for _ in range(3):
            with writing(made.lab.engine) as c:
                now = database_now(c) + timedelta(hours=2)
                claim = queue.claim(c, worker="odd", now=now, lease=LEASE)
                if claim is None:
                    break
                owner, attempt = claim.run.id, claim.attempt
                queue.requeue(c, owner, attempt, now=now, reason="lost", max_attempts=3)
                fleet.worker_alive(c, "odd", busy_slots=[], now=now)
        made.runs[f"lost of {user}"] = run


def failures(made: Gallery) -> None:
    """A failure of every class, with and without what it may lack."""
    for name in CLASSES:
        run = made.train(f"failed of {name}")
        told = {"failure_class": name, "code": name, "message": f"It is {name}. " * 30}
        made.lab.finish(run, RunState.FAILED, failure=told)
    run = made.train("failed of out of memory", name="memory")
    told = out_of_memory(RuntimeError("m" * 3000)).model_dump(mode="json", exclude={"type"})
    made.lab.finish(run, RunState.FAILED, failure=told)
    made.runs["follows a failure"] = made.submit(DIGITS, after=[made.train("will fail").id])
    made.lab.finish(made.runs["will fail"], RunState.FAILED, failure={"code": "x"})


def positions(made: Gallery) -> None:
    """Queued runs that wait for every kind of thing."""
    wants: dict[str, dict[str, Any]] = {
        "no worker": {"queue": "nowhere"},
        "impossible": {"gpus": 16, "gpu_memory": 4000},
        "many slots": {"cpu_slots": 16, "cores": 1000},
        "given to nobody": {"queue": "odd", "gpus": 3},
    }
    for what, resources in wants.items():
        made.runs[f"waits: {what}"] = made.submit(DIGITS, resources=resources)
    followed = [made.runs[f"train {state}"].id for state in ("queued", "paused", "running")]
    made.runs["waits: several"] = made.submit(DIGITS, after=[*followed, made.runs["stays"].id])


def phases(made: Gallery) -> None:
    """Progress of every phase, with and without what it may lack."""
    units = ("step", "image", "pass")
    for index, phase in enumerate(PHASES):
        run = made.train(f"at {phase}")
        unit = units[index % len(units)]
        progress = Progress(phase=phase, done=index, total=4, unit=unit, detail="w" * 70)
        made.lab.advance(run, **progress.model_dump(mode="json", exclude={"type"}))
    made.lab.advance(made.train("at an unknown phase"), phase="sleep")
    made.lab.advance(made.train("beyond its end"), phase="train", done=9, total=0, unit="step")


def names(made: Gallery) -> None:
    """Names, experiments and tags that are long, foreign, or look like HTML."""
    for what, name in NAMES.items():
        run = made.train(f"named {what}")
        with writing(made.lab.engine) as c:  # no client may send all of these: a page shows them
            values = {"name": name, "tags": [name[:40]] * 9, "worker": name}
            c.execute(tables.runs.update().where(tables.runs.c.id == run.id).values(values))
        made.lab.log(run, name * 5)
        picture = {"media_type": "image/png", "content": PICTURE}
        made.keep(run, f"figures/{'n' * 150}.png", "figure", **picture)
        made.succeed(run, {**SUMMARY, "verdict": "incomplete"})


def series(made: Gallery) -> None:
    """Series of every name, of one point, of many, of none that is finite."""
    nan, inf = float("nan"), float("inf")
    run = made.train("series of every name")
    members = [MEMBERS + name for name in ("grad-cam", "score-cam")]
    made.measure(run, range(3), **{name: [0.1, nan, 0.4] for name in (*SERIES, *members)})
    made.succeed(run)
    run = made.train("series of one point")
    made.measure(run, range(1), **{"train/loss": [0.5], "val/accuracy": [nan], "x/y": [inf]})
    run = made.train("series of no number")
    made.measure(run, range(3), **{"train/loss": [nan, inf, -inf], "val/fgsm": [nan, nan, nan]})
    run = made.train("series of many points")
    made.measure(run, range(100_000), **{"train/loss": [1 / (1 + i) for i in range(100_000)]})
    run = made.train("series of many names")
    made.measure(run, range(2), **{f"<b>{i}</b>/{'n' * 60}": [0.0, 1e300] for i in range(70)})


def logs(made: Gallery) -> None:
    """A log of many lines and of long ones."""
    run = made.train("log")
    made.lab.log(run, *(f"line {i}" for i in range(3000)))
    made.lab.log(run, "w" * 20_000, "a\nb\r\n\tc\x1b[31m", level="warning")
    made.lab.log(run, HTML, "", level="error")


def summaries(made: Gallery) -> None:
    """Summaries that lack something, or hold no number where one should be."""
    for key in SUMMARY:
        run = made.train(f"summary without {key}")
        made.succeed(run, {name: value for name, value in SUMMARY.items() if name != key})
    made.succeed(made.train("summary that is empty"), {})
    made.succeed(made.train("summary of nothing"), dict.fromkeys(SUMMARY))
    spelled = {**dict.fromkeys(SUMMARY, "NaN"), "verdict": "suspicious"}
    made.succeed(made.train("summary of words"), spelled)
    odd = {**SUMMARY, "clean_accuracy": 1.5, "n": 0, "verdict": "unheard-of"}
    made.succeed(made.train("summary of odd numbers"), odd)


def judgements(made: Gallery) -> None:
    """Evaluations of every verdict, and with everything that they may hold."""
    for verdict in get_args(Verdict):
        run = made.train(f"judged {verdict}")
        made.lab.evaluate(run, evaluation(verdict, fails=verdict == "broken"))
        made.succeed(run, {**SUMMARY, "verdict": verdict})
    run = made.train("judged by everything")
    made.lab.evaluate(run, everything())
    made.succeed(run, SUMMARY)


def everything() -> Evaluation:
    """An evaluation that uses every field."""
    source = Source(run="0" * 18)
    surrogate = Surrogate(source=source, model="resnet18", model_sha256="d" * 64)
    l2 = ThreatModel(norm="l2", epsilon="1/2")  # type: ignore[arg-type]
    results = (
        attack("clean", 347),
        attack("transfer-00000000-20", 300, steps=20, surrogate=surrogate),
        attack("pgd-20", 225, steps=20, restarts=5, cascaded=True),
        attack("square", 220, complete=False),
        attack("apgd-ce", 0, n=1).model_copy(update={"threat": l2}),
    )
    corruptions = tuple(
        CorruptionResult(
            label=f"{kind}@{severity}",
            kind=kind,
            severity=severity,
            n=360,
            correct=200,
            accuracy=200 / 360,
            interval=wilson(200, 360),
            outcomes="",
        )
        for kind in get_args(CorruptionName)[:3]
        for severity in (1, 5)
    )
    changed = {"results": results, "suite": "report", "corruptions": corruptions}
    return evaluation("sound").model_copy(update=changed)


def files(made: Gallery) -> None:
    """A file of every kind."""
    run = made.train("files")
    for kind in (*FILES, "checkpoint"):
        made.keep(run, f"some/{kind}.bin", kind)
    with writing(made.lab.engine) as c:
        kept = artifacts.listing(c, run.id)
    assert len(kept) == len(FILES) + 1


SCENES = (failures, phases, names, series, logs, summaries, judgements, files, positions, losses)
