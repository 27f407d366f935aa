"""One experiment from its spec to its last event.

``run_experiment`` yields everything it has to say; closing it is cancellation. It knows no
database, no queue and no callback.
"""

import platform
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, assert_never

import torch
from torch import Tensor

from domain import spec as s
from domain.attacks import Transfer
from domain.audit import Record, audit, missing_attacks
from domain.errors import CheckpointInvalid
from domain.events import ArtifactSaved, Evaluated, Event, Finished, Log, Progress, Started
from domain.pictures import FigureSpec, figure_of, with_scores
from domain.results import AuditFacts, Evaluation
from partcore import build, checkpoint, evaluation, narration, probes
from partcore.cams import Combiner
from partcore.corrupted import under_corruptions
from partcore.data import Images, Split, classes_in, fingerprint, loading, to_unit
from partcore.environment import Environment
from partcore.evaluation import evaluate
from partcore.machine import (
    Machine,
    capability,
    in_words,
    machine,
    moved,
    refuse_emulation,
    warning,
)
from partcore.models import CamClassifier
from partcore.models.classifier import parameter_count
from partcore.randomness import generator
from partcore.standing import Outcome, made_on
from partcore.training import BEST, LAST, Trainer

Spec = s.TrainSpec | s.EvaluateSpec | s.VisualiseSpec
FIGURE_IMAGES = 6
FIGURE = "figures/budget.png"


def run_experiment(spec: Spec, environment: Environment) -> Iterator[Event]:
    """Yield the events of one attempt.

    Raises ExperimentError for what another attempt would meet again.
    """
    for event in _run(spec, environment):
        yield event
        if isinstance(event, ArtifactSaved):
            yield narration.saved(event)


def _run(spec: Spec, environment: Environment) -> Iterator[Event]:
    yield Progress(phase="prepare", done=0, total=1, unit="step", detail="reading the images")
    refuse_emulation(spec, environment.device)
    split = yield from loading(spec.data, environment.data_root, seed=spec.seed)
    started = environment.clock()
    match spec:
        case s.TrainSpec():
            yield from _train(spec, split, environment, started)
        case s.EvaluateSpec():
            yield from _evaluate(spec, split, environment, started)
        case s.VisualiseSpec():
            yield from _visualise(spec, split, environment)
        case _:
            assert_never(spec)


# -- kinds ------------------------------------------------------------------------------------


def _train(
    spec: s.TrainSpec, split: Split, environment: Environment, started: float
) -> Iterator[Event]:
    trainer = Trainer(spec, split, environment)
    resumes = environment.resume and (environment.work / LAST).exists()
    if resumes:
        trainer.resume(environment.work / LAST)
    earlier = trainer.made_on[:-1]
    yield from _begin(spec, split, trainer.model, environment, earlier)
    if resumes:
        yield narration.resumed(
            trainer.step, trainer.total_steps, trainer.epoch + 1, spec.training.epochs
        )
    if trainer.has_moved:
        yield Log(level="warning", message=warning(earlier, machine(environment)))
    with environment.ranks.joined(environment.device):
        yield from trainer.run()
        yield from trainer.finish()
    if not environment.ranks.is_first:
        return
    subject = _subject(spec.evaluation.weights, trainer)
    found = yield from _judge(
        subject,
        split,
        spec.evaluation,
        spec=spec,
        environment=environment,
        history=_history(spec, trainer.mask_record),
    )
    yield from _keep_weights(subject, spec, environment)
    yield from _picture(spec, split, subject, environment)
    seconds = environment.clock() - started
    yield Finished(summary=summary(found, seconds=seconds, epochs=spec.training.epochs))


def _evaluate(
    spec: s.EvaluateSpec, split: Split, environment: Environment, started: float
) -> Iterator[Event]:
    subject = _from_source(spec, split, environment)
    here = machine(environment)
    before = made_on(environment.work) if environment.resume else []
    yield from _begin(spec, split, subject.model, environment, moved(before, here)[:-1])
    if before and before[-1] != here:
        yield Log(level="warning", message=warning(before, here))
    found = yield from _judge(
        subject,
        split,
        spec.evaluation,
        spec=spec,
        environment=environment,
        history=History(),
    )
    yield Finished(summary=summary(found, seconds=environment.clock() - started))


def _visualise(spec: s.VisualiseSpec, split: Split, environment: Environment) -> Iterator[Event]:
    subject = _from_source(spec, split, environment)
    yield from _begin(spec, split, subject.model, environment)
    yield from _picture(spec, split, subject, environment)
    yield Finished(summary={"images": min(spec.images, len(split.test))})


def _begin(
    spec: Spec,
    split: Split,
    model: CamClassifier,
    environment: Environment,
    earlier: Sequence[Machine] = (),
) -> Iterator[Event]:
    told = facts(spec, split, model, environment, earlier)
    yield Started(facts=told)
    yield from narration.begins(spec, split, told)


# -- what is judged ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """Weights under test, and the file they can be read from again."""

    model: CamClassifier
    file: Path
    weights: s.Weights | Literal["uploaded"]
    averaged: bool


def _subject(weights: s.Weights, trainer: Trainer) -> Subject:
    work = trainer.environment.work
    file = work / (BEST if weights == "best" else LAST)
    averaged = weights == "best" and trainer.best is not None and trainer.best.averaged
    _load_into(trainer.model, file)
    return Subject(trainer.model, file, weights, averaged)


def _from_source(
    spec: s.EvaluateSpec | s.VisualiseSpec, split: Split, environment: Environment
) -> Subject:
    if environment.source_checkpoint is None:
        raise CheckpointInvalid(f"there are no weights of {spec.source.title}")
    file = environment.source_checkpoint
    model = build.model(spec.model, split, seed=spec.seed).to(environment.device)
    _load_into(model, file)
    if spec.source.checkpoint is not None:  # what its header says is a stranger's word
        return Subject(model, file, "uploaded", averaged=False)
    best = checkpoint.load(file)[1].get("best") or {}
    averaged = spec.source.weights == "best" and bool(best.get("averaged"))
    return Subject(model, file, spec.source.weights, averaged)


def _load_into(model: CamClassifier, file: Path) -> None:
    build.load_weights(model, checkpoint.load_weights(file), source=file.name)


@dataclass(frozen=True)
class History:
    """What is known of how the weights were trained, for the audit."""

    mask: Mapping[str, float] | None = None
    epsilon_gap: float = 0.0
    trained_at: Fraction | None = None


def _history(spec: s.TrainSpec, mask: Mapping[str, float] | None) -> History:
    method, trained_at = spec.method, s.trained_radius(spec.method)
    if not isinstance(method, s.Part):
        return History(trained_at=trained_at)
    low, high = method.final_radii()
    return History(mask if _varies(method) else None, float(high - low), trained_at)


def _varies(method: s.Part) -> bool:
    """Whether a mask takes values between 0 and 1, so that the audit can ask if it lives."""
    fixed = s.ThresholdMask | s.ZScoreMask | s.OfficialJetMask | s.GeometricMask
    return not isinstance(method.mask, fixed) and method.control != "uniform"


def _judge(
    subject: Subject,
    split: Split,
    evaluated: s.EvaluationSpec,
    *,
    spec: s.TrainSpec | s.EvaluateSpec,
    environment: Environment,
    history: History,
) -> Generator[Event, None, Evaluation]:
    """Attack, keep evidence, check it by another path, audit."""
    test = split.test
    if evaluated.images is not None:
        test = test.take(torch.arange(min(evaluated.images, len(test))))
    images = test.to(environment.device)
    outcomes = yield from evaluate(
        subject.model,
        images,
        evaluated,
        seed=spec.seed,
        environment=environment,
        surrogates=_surrogates(evaluated, split, environment),
    )
    yield _keep_outcomes(outcomes, images, environment)
    yield _keep_evidence(outcomes, images, environment)
    corruptions = yield from under_corruptions(
        subject.model, images, evaluated, seed=spec.seed, environment=environment
    )
    yield from narration.corrupted(corruptions)
    worst = evaluation.worst_case(outcomes, evaluated.epsilon)
    facts = AuditFacts(
        dataset=spec.data.dataset,
        model=spec.model.name,
        trained_at=history.trained_at,
        mask=history.mask,
        epsilon_gap=history.epsilon_gap,
        mismatches=_mismatches(outcomes, split, subject, spec, environment),
        logit_difference=probes.logit_difference(subject.model, images),
        gives_probabilities=probes.gives_probabilities(subject.model, images),
        seen_in_training=probes.seen_in_training(test, split.train, split.validation),
        classes=len(split.classes),
        classes_judged=classes_in(test),
        held_out=len(split.validation) if subject.weights == "best" else None,
    )
    record = Record(
        results={label: outcome.result for label, outcome in outcomes.items()},
        epsilon=evaluated.epsilon,
        worst_case=worst,
        facts=facts,
    )
    report = audit(record)
    yield from narration.judged(worst, report, missing_attacks(record))
    found = Evaluation(
        weights=subject.weights,
        suite=evaluated.suite,
        averaged=subject.averaged,
        model_sha256=checkpoint.weights_sha256(subject.model.state_dict()),
        data_sha256=fingerprint(test),
        sample_ids_sha256=evaluation.ids_sha256(test),
        n=len(test),
        results=tuple(outcome.result for outcome in outcomes.values()),
        worst_case=worst,
        audit=report,
        facts=facts,
        corruptions=corruptions,
    )
    yield Evaluated(evaluation=found)
    return found


def _surrogates(
    evaluated: s.EvaluationSpec, split: Split, environment: Environment
) -> dict[str, CamClassifier]:
    """Return the networks that transfer attacks are made on, frozen. Raises CheckpointInvalid."""
    found: dict[str, CamClassifier] = {}
    for attack in evaluated.attacks:
        if not isinstance(attack, Transfer) or attack.source.key in found:
            continue
        file = (environment.surrogates or Path()) / f"{attack.source.key}.safetensors"
        if environment.surrogates is None or not file.exists():
            raise CheckpointInvalid(f"there are no weights of {attack.source.title} to attack with")
        network = build.model(attack.model, split, seed=0).to(environment.device)
        _load_into(network, file)
        found[attack.source.key] = network.eval().requires_grad_(requires_grad=False)
    return found


def _keep_outcomes(
    outcomes: Mapping[str, Outcome], images: Images, environment: Environment
) -> Event:
    tensors = {label: outcome.correct.to(torch.uint8) for label, outcome in outcomes.items()}
    for label, outcome in outcomes.items():
        if outcome.margin is not None:
            tensors[f"{label}/margin"] = outcome.margin
    tensors["sample_ids"] = images.ids.cpu()
    return _save_tensors("evaluation/outcomes.safetensors", "outcomes", tensors, environment)


def _keep_evidence(
    outcomes: Mapping[str, Outcome], images: Images, environment: Environment
) -> Event:
    x = to_unit(images.x[: evaluation.EVIDENCE_IMAGES]).cpu()
    tensors = {"sample_ids": images.ids[: len(x)].cpu(), "y": images.y[: len(x)].cpu(), "x": x}
    for label, outcome in outcomes.items():
        if outcome.kept is not None:
            tensors[f"{label}/x_adv"] = outcome.kept
            tensors[f"{label}/delta"] = outcome.kept - x
    return _save_tensors("evaluation/evidence.safetensors", "evidence", tensors, environment)


def _save_tensors(
    file: str, kind: str, tensors: Mapping[str, Tensor], environment: Environment
) -> ArtifactSaved:
    saved = checkpoint.save(environment.work / file, tensors, {"format": 1})
    return ArtifactSaved.model_validate(
        {
            "file": file,
            "name": file,
            "kind": kind,
            "media_type": "application/octet-stream",
            "sha256": saved.sha256,
            "size": saved.size,
        }
    )


def _mismatches(
    outcomes: Mapping[str, Outcome],
    split: Split,
    subject: Subject,
    spec: s.TrainSpec | s.EvaluateSpec,
    environment: Environment,
) -> int | None:
    """Read evidence and checkpoint from the disk and predict again, in a network built anew."""
    tensors, _ = checkpoint.load(environment.work / "evaluation/evidence.safetensors")
    fresh = build.model(spec.model, split, seed=spec.seed)
    _load_into(fresh, subject.file)
    return probes.mismatches(outcomes, fresh, tensors)


# -- what is kept -----------------------------------------------------------------------------


def _keep_weights(subject: Subject, spec: s.TrainSpec, environment: Environment) -> Iterator[Event]:
    state = {name: tensor.cpu() for name, tensor in subject.model.state_dict().items()}
    metadata = {
        "format": 1,
        "model": spec.model.name,
        "weights": subject.weights,
        "averaged": subject.averaged,
        "spec": spec.model_dump(mode="json"),
    }
    file = "weights/final.safetensors"
    saved = checkpoint.save(environment.work / file, checkpoint.prefixed("model", state), metadata)
    yield ArtifactSaved(
        file=file,
        name=file,
        kind="weights",
        media_type="application/octet-stream",
        sha256=saved.sha256,
        size=saved.size,
    )


def _picture(
    spec: s.TrainSpec | s.VisualiseSpec, split: Split, subject: Subject, environment: Environment
) -> Iterator[Event]:
    """Draw the first test images of as many classes as there is room for."""
    from partcore import figures  # matplotlib: half a second, which a picture alone waits for
    from partcore.pictures import Painter, one_a_class

    yield Progress(phase="draw", done=0, total=1, unit="image", detail=FIGURE)
    wanted = spec.images if isinstance(spec, s.VisualiseSpec) else FIGURE_IMAGES
    chosen = split.test.take(one_a_class(split.test.y, wanted))
    figure = _figure(spec, subject)
    painter = Painter(
        subject.model,
        split.classes,
        generator(spec.seed, "figure"),
        None if figure.budget is None else _learned(figure.budget.cam, subject.file),
    )
    preset = f", {spec.preset}" if spec.preset else ""
    drawn = painter.picture(
        figure,
        to_unit(chosen.x).to(environment.device),
        chosen.y.to(environment.device),
        setting=f"{spec.data.dataset}, {spec.model.name}{preset}, seed {spec.seed}",
    )
    saved = checkpoint.write_file(environment.work / FIGURE, figures.draw(drawn))
    yield ArtifactSaved(
        file=FIGURE,
        name=FIGURE,
        kind="figure",
        media_type="image/png",
        sha256=saved.sha256,
        size=saved.size,
    )


def _figure(spec: s.TrainSpec | s.VisualiseSpec, subject: Subject) -> FigureSpec:
    """Return what is drawn, with the Score-CAM scores that the weights' run had moved to."""
    figure = figure_of(spec)
    if subject.weights == "uploaded":
        return figure
    scores = checkpoint.load(subject.file)[1].get("scores")
    if scores is None:
        return figure
    return with_scores(figure, s.CamSpec.model_validate({"scores": scores}).scores)


def _learned(cam: s.CamSpec, file: Path) -> Combiner | None:
    """Return what the ensemble of a checkpoint learned, if both are of the same form."""
    combiner = build.combiner(cam)
    state = checkpoint.under(checkpoint.read(file)[0], "combiner")
    if combiner is None or state.keys() != combiner.state_dict().keys():
        return None
    combiner.load_state_dict(state)
    return combiner


def facts(
    spec: Spec,
    split: Split,
    model: CamClassifier,
    environment: Environment,
    earlier: Sequence[Machine] = (),
) -> dict[str, str | int | float | bool | None]:
    """Return what a paper's appendix would say of the run.

    earlier: the other kinds of machine that it ran on before.
    """
    parts = {"accumulation": spec.training.accumulation} if isinstance(spec, s.TrainSpec) else {}
    return {
        **parts,
        "device": environment.device,
        "cpu_capability": capability(),
        "threads": environment.threads,
        **machine(environment),
        "begun_on": "; then ".join(in_words(one) for one in earlier) or None,
        "ranks": environment.ranks.size,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "partlab": _own_version(),
        "parameters": parameter_count(model),
        "train_images": len(split.train),
        "validation_images": len(split.validation),
        "test_images": len(split.test),
        "classes": len(split.classes),
        "train_sha256": fingerprint(split.train),
        "test_sha256": fingerprint(split.test),
        "seed": spec.seed,
    }


def _own_version() -> str:
    try:
        return version("partlab")
    except PackageNotFoundError:
        return "unknown"


def summary(
    found: Evaluation, *, seconds: float, epochs: int | None = None
) -> dict[str, str | int | float | bool | None]:
    """Return the run's headline figures."""
    accuracy = {result.label: result.accuracy for result in found.results}
    return {
        "clean_accuracy": accuracy["clean"],
        "pgd20_robust_accuracy": accuracy.get("pgd-20"),
        # Over no attack the worst case is clean accuracy, which is never called robust.
        "worst_case_robust_accuracy": found.worst_case.accuracy if found.counted else None,
        "verdict": found.audit.verdict,
        "weights": found.weights,
        "averaged": found.averaged,
        "model_sha256": found.model_sha256,
        "n": found.n,
        "epochs": epochs,
        "seconds": round(seconds, 1),
    }
