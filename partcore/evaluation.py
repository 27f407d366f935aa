"""Evaluation: clean accuracy, every attack, per-sample outcomes, evidence. Always in fp32.

An attack runs in stages over survivors. The noise of a stage is drawn for all images at once, in
order of id, from (seed, attack, stage), so no outcome depends on the batch size, and an interrupted
evaluation goes on to the same outcomes.
"""

import base64
import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from domain import attacks as a
from domain import spec as s
from domain.events import Event, Log, Progress
from domain.results import AttackResult, StageResult, Surrogate, ThreatModel, wilson_interval
from partcore import standing as state
from partcore.attack_stages import Setting, Stage, stages
from partcore.attacks.project import L2_BALL, LINF, Ball
from partcore.checkpoint import weights_sha256
from partcore.data import Images, fingerprint, to_unit
from partcore.environment import Environment
from partcore.machine import machine, moved
from partcore.models import CamClassifier
from partcore.modes import evaluating, frozen
from partcore.narration import attacked
from partcore.progress import Throughput
from partcore.randomness import generator
from partcore.standing import Outcome, Standing, UnderWay
from partcore.tally import Counted, Tally

EVIDENCE_IMAGES = 64
"""How many images' adversarial twins are kept for an independent check."""
StagesOf = Callable[[s.Attack, Setting], list[Stage]]
SAVE_SECONDS = 30.0
"""How much work an interruption may cost."""


def evaluate(
    model: CamClassifier,
    images: Images,
    spec: s.EvaluationSpec,
    *,
    seed: int,
    environment: Environment,
    surrogates: Mapping[str, CamClassifier] = MappingProxyType({}),
    stages_of: StagesOf = stages,
) -> Generator[Event, None, dict[str, Outcome]]:
    """Yield progress; return an Outcome for `clean` and each attack, by label, in order.

    images: in order of id; all of them are judged. With ``environment.resume`` it goes on from the
    partial evaluation in ``environment.work``, if that is of the same spec, weights and images.
    surrogates: the networks of transfer attacks, as :class:`Setting` has them.
    stages_of: how an attack is made; the audit's self-test plants broken ones.
    """
    key = state.key(
        spec,
        seed=seed,
        model_sha256=weights_sha256(model.state_dict()),
        data_sha256=fingerprint(images),
        surrogates_sha256={key: weights_sha256(m.state_dict()) for key, m in surrogates.items()},
    )
    found = Standing(key)
    if environment.resume:
        found = Standing.read(environment.work, key, {x.label: _ball(x) for x in spec.attacks})
    found.made_on = moved(found.made_on, machine(environment))
    with evaluating(model), frozen(model):
        clean = yield from _clean(model, images, spec, environment)
        if len(found.outcomes) or found.under_way:
            yield Log(message=f"evaluation goes on after {len(found.outcomes)} attacks")
        siege = _Siege(model, images, clean, spec, seed, environment, found, surrogates, stages_of)
        yield from siege.run()
    return {"clean": clean, **found.outcomes}


def _clean(
    model: CamClassifier, images: Images, spec: s.EvaluationSpec, environment: Environment
) -> Generator[Event, None, Outcome]:
    started = environment.clock()
    correct = torch.zeros(len(images), dtype=torch.bool)
    for start in range(0, len(images), spec.batch_size):
        part = slice(start, start + spec.batch_size)
        correct[part] = (predict(model, to_unit(images.x[part])) == images.y[part]).cpu()
        done = min(start + spec.batch_size, len(images))
        yield _progress("clean", done, len(images), None)
    result = _result("clean", "clean", correct, seconds=environment.clock() - started)
    yield attacked(result)
    return Outcome(result.model_copy(update={"passes": len(images)}), correct)


@torch.no_grad()
def predict(model: CamClassifier, x: Tensor) -> Tensor:
    """Return classes, (N,)."""
    classes: Tensor = model(x).argmax(dim=1)
    return classes


@dataclass
class _Siege:
    """The attacks of one evaluation, one after the other."""

    model: CamClassifier
    images: Images
    clean: Outcome
    spec: s.EvaluationSpec
    seed: int
    environment: Environment
    found: Standing
    surrogates: Mapping[str, CamClassifier]
    stages_of: StagesOf
    spent_passes: int = 0
    spent_seconds: float = 0.0
    saved_at: float = 0.0

    def run(self) -> Iterator[Event]:
        """Run what is missing of every attack, within the budget."""
        self.saved_at = self.environment.clock()
        for outcome in self.found.outcomes.values():
            self.spent_passes += outcome.result.passes or 0
            self.spent_seconds += outcome.result.seconds
        for attack in self.spec.attacks:
            if attack.label in self.found.outcomes:
                continue
            yield from self._attack(attack)

    def _attack(self, attack: s.Attack) -> Iterator[Event]:
        epsilon = self.spec.epsilon_of(attack)
        setting = Setting(self.model, epsilon, self._classes(), self.seed, self.surrogates)
        parts = self.stages_of(attack, setting)
        if (now := self.found.under_way) is None:
            now = UnderWay(attack.label, self._fresh(attack))
            self.found.under_way = now
        complete = True
        while now.stage < len(parts) and complete:
            part = parts[now.stage]
            complete = yield from self._stage(attack, part, now, len(parts))
            if complete:
                standing = int((~now.tally.broken).sum())
                now.stages.append(StageResult(name=part.name, correct=standing))
                now.stage, now.left = now.stage + 1, None
        outcome = self._outcome(attack, epsilon, now, complete=complete)
        self.found.outcomes[attack.label] = outcome
        self.spent_passes += now.tally.measures.passes
        self.spent_seconds += now.tally.measures.seconds
        self.found.under_way = None
        yield attacked(outcome.result)

    def _fresh(self, attack: s.Attack) -> Tally:
        standing = self.clean.correct
        if self.spec.cascade:
            before = [o.correct for o in self._within_threat()]
            standing = torch.stack([standing, *before]).all(dim=0)
        return Tally(
            broken=~standing,
            margin=torch.full((len(standing),), torch.nan),
            kept=to_unit(self.images.x[:EVIDENCE_IMAGES]).cpu(),
            ball=_ball(attack),
        )

    def _within_threat(self) -> Iterator[Outcome]:
        outcomes = self.found.outcomes.values()
        yield from (o for o in outcomes if within(o.result.threat, self.spec.epsilon))

    def _stage(
        self, attack: s.Attack, part: Stage, now: UnderWay, count: int
    ) -> Generator[Event, None, bool]:
        """Attack what the stage has left; return whether the budget lasted to its end."""
        environment, measures = self.environment, now.tally.measures
        noise = generator(self.seed, "evaluation", attack.label, now.stage)
        unit = 2 * torch.rand(self.images.x.shape, generator=noise) - 1
        if now.left is None:
            now.left = (~now.tally.broken).nonzero()[:, 0]
        total = len(now.left)
        detail = attack.label if count == 1 else f"{attack.label}: {part.name}"
        throughput, last = Throughput(environment.clock), environment.clock()
        while len(now.left):
            if self._is_spent(now):
                return False
            index, rest = now.left[: self.spec.batch_size], now.left[self.spec.batch_size :]
            self._batch(part, float(self.spec.epsilon_of(attack)), unit, index, now)
            now.left = rest
            clock = environment.clock()
            measures.seconds += clock - last
            last = clock
            done = total - len(rest)
            yield _progress(detail, done, total, throughput.count(len(index)))
            if clock - self.saved_at >= SAVE_SECONDS or environment.checkpoint_requested():
                self.saved_at = clock
                yield self.found.save(environment.work)
        return True

    def _is_spent(self, now: UnderWay) -> bool:
        passes = self.spent_passes + now.tally.measures.passes
        seconds = self.spent_seconds + now.tally.measures.seconds
        most, longest = self.spec.budget_passes, self.spec.budget_seconds
        return (most is not None and passes >= most) or (longest is not None and seconds >= longest)

    def _batch(
        self, part: Stage, epsilon: float, unit: Tensor, index: Tensor, now: UnderWay
    ) -> None:
        where = index.to(self.images.x.device)
        x, y = to_unit(self.images.x[where]), self.images.y[where]
        counted = Counted(self.model)
        attempt = part.attack(counted, x, y, epsilon, unit[index].to(x.device))
        now.tally.measures.passes += counted.passes + attempt.other_passes
        now.tally.note(counted, x, y, index, attempt, first=now.stage == 0)

    def _classes(self) -> int:
        with torch.no_grad():
            logits: Tensor = self.model(to_unit(self.images.x[:1]))
        return logits.shape[1]

    def _outcome(
        self, attack: s.Attack, epsilon: Fraction, now: UnderWay, *, complete: bool
    ) -> Outcome:
        tally, correct = now.tally, ~now.tally.broken
        result = _result(attack.label, attack.kind, correct, seconds=tally.measures.seconds)
        facts = {
            "threat": ThreatModel(norm=attack.threat_norm, epsilon=epsilon),
            "evidence": tally.evidence(),
            "passes": tally.measures.passes,
            "complete": complete,
            "cascaded": self.spec.cascade,
            "stages": tuple(now.stages) if len(now.stages) > 1 else (),
        }
        if isinstance(attack, a.Transfer):
            facts["surrogate"] = self._surrogate(attack)
        result = result.model_copy(update=facts | _strength(attack, epsilon))
        return Outcome(result, correct, tally.kept, tally.margin)

    def _surrogate(self, attack: a.Transfer) -> Surrogate:
        return Surrogate(
            source=attack.source,
            model=attack.model.name,
            model_sha256=weights_sha256(self.surrogates[attack.source.key].state_dict()),
        )


def _ball(attack: s.Attack) -> Ball:
    return LINF if attack.threat_norm == "linf" else L2_BALL


def within(threat: ThreatModel | None, epsilon: Fraction) -> bool:
    """Whether every image an attack may make is one the threat model of ``epsilon`` allows."""
    return threat is None or (threat.norm == "linf" and threat.epsilon <= epsilon)


def _strength(attack: s.Attack, epsilon: Fraction) -> dict[str, object]:
    """Return steps, their size and restarts, as far as an attack has them."""
    if isinstance(attack, a.Fgsm):
        return {"steps": 1, "step_size": epsilon, "restarts": 1}
    found: dict[str, object] = {"restarts": getattr(attack, "restarts", 1)}
    if isinstance(attack, a.Square | a.Noise):
        return found
    found["steps"] = attack.steps
    if isinstance(attack, a.Pgd | a.Cw | a.Mma | a.MultiTargeted | a.Adaptive | a.Transfer):
        found["step_size"] = attack.step_at(epsilon)
    return found


def _progress(detail: str, done: int, total: int, rate: float | None) -> Progress:
    return Progress(
        phase="evaluate",
        done=done,
        total=max(total, 1),
        unit="image",
        images_per_second=rate,
        detail=detail,
    )


def _result(label: str, kind: str, correct: Tensor, *, seconds: float) -> AttackResult:
    hits, count = int(correct.sum()), len(correct)
    return AttackResult(
        label=label,
        kind=kind,
        threat=None,
        n=count,
        correct=hits,
        accuracy=hits / count,
        interval=wilson_interval(hits, count),
        seconds=seconds,
        outcomes=pack(correct),
    )


def pack(correct: Tensor) -> str:
    """Return base64 of big-endian packed bits. correct: (N,) bool."""
    return base64.b64encode(np.packbits(correct.cpu().numpy()).tobytes()).decode()


def unpack(outcomes: str, count: int) -> Tensor:
    """Return (count,) bool from :func:`pack`'s text."""
    bits = np.unpackbits(np.frombuffer(base64.b64decode(outcomes), np.uint8), count=count)
    return torch.from_numpy(bits.astype(bool))


def worst_case(outcomes: Mapping[str, Outcome], epsilon: Fraction) -> AttackResult:
    """Return the exact union over the attacks inside the threat model: l-infinity, ``epsilon``.

    An image stands if it stands under all of them. What ran at a larger radius, or in another norm,
    says nothing here.
    """
    counted = [o for o in outcomes.values() if within(o.result.threat, epsilon)]
    correct = torch.stack([outcome.correct for outcome in counted]).all(dim=0)
    seconds = sum(outcome.result.seconds for outcome in counted)
    result = _result("worst-case", "union", correct, seconds=seconds)
    complete = all(outcome.result.complete for outcome in counted)
    threat = ThreatModel(epsilon=epsilon)
    return result.model_copy(update={"threat": threat, "complete": complete})


def ids_sha256(images: Images) -> str:
    """Return the hash of which images were judged."""
    return hashlib.sha256(images.ids.cpu().numpy().tobytes()).hexdigest()
