"""Training: warm-up, reweighted attack, update, average, validation, checkpoints, exact resume.

The whole state is in :class:`Trainer`; the position is one number, the global step. Data order is a
function of (seed, epoch), every other draw comes from a stream whose state a checkpoint holds, so a
run that is cut anywhere and resumed ends in the same bits.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from domain import spec as s
from domain.errors import CheckpointInvalid
from domain.events import CheckpointSaved, Event, Log, Progress
from partcore import build, checkpoint, narration, score_ladder
from partcore.cams import Combiner, Learned, learn, read
from partcore.compiling import compiled
from partcore.data import Split, Warp, to_unit
from partcore.data.sizes import require_enough
from partcore.ema import Average
from partcore.environment import Environment
from partcore.folding import Twin
from partcore.machine import emulates, machine, moved
from partcore.map_cache import CachedMaps, MapCache
from partcore.methods import perturbation
from partcore.models import CamClassifier
from partcore.modes import evaluating, frozen
from partcore.progress import MetricBuffer, Throughput
from partcore.randomness import Share, Streams, derive, epoch_order
from partcore.update import Batch, Update
from partcore.validation import Best, Robustness, robustness

METRICS_EVERY = 10
"""Steps between two points of the step-wise series; an epoch's last step has one too."""
LEARN_EVERY, LEARN_RATE = 10, 1.0
"""Steps between two steps of a learned ensemble, and their size."""
LAST, BEST = "checkpoints/last.safetensors", "checkpoints/best.safetensors"
DTYPES: Mapping[s.Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


class Trainer:
    """The state of one training run and its moves."""

    def __init__(self, spec: s.TrainSpec, split: Split, environment: Environment) -> None:
        self.spec = spec
        self.method = spec.method
        """The method; its estimator of Score-CAM may move up."""
        self.environment = environment
        self.ranks = environment.ranks
        self.device = environment.device
        self.train = split.train.to(self.device)
        self.validation = split.validation.to(self.device)
        require_enough(spec, split, self.ranks.size)
        self.model = self._placed(build.model(spec.model, split, seed=spec.seed))
        training = spec.training
        decay = training.ema_decay
        self.average = None if decay is None else Average(self.model, decay)
        self.optimiser = torch.optim.SGD(
            self.model.parameters(),
            lr=training.learning_rate,
            momentum=training.momentum,
            weight_decay=training.weight_decay,
            nesterov=training.nesterov and training.momentum > 0,
        )
        self.step_down = Update(
            self.model,
            self.optimiser,
            build.objective(spec.method),
            dtype=DTYPES[training.update_precision],
            parts=training.accumulation,
            ranks=self.ranks,
        )
        self.twin, self.refused = self._attacked_twin()
        self.learning_rate = build.learning_rate(training)
        self.augmentation = build.augmentation(spec.data)
        self.kept = self._map_cache()
        self.refresh_epochs = 1
        self.combiner = self._combiner()
        self.streams = Streams.of(spec.seed)
        self.step = 0
        self.made_on: list[dict[str, Any]] = [dict(machine(environment))]
        """The kinds of machine the weights were trained on, in order; this one is the last."""
        self.has_moved = False
        self.narrow = spec.resources.emulate_precision or not emulates("bf16", self.device)
        """Whether a floor may move scores to bf16."""
        self.saved_at = environment.clock()
        self.best: Best | None = None
        self.mask_record: dict[str, float] | None = None
        self.metrics = MetricBuffer()
        self.throughput = Throughput(environment.clock)
        self.diary = narration.Diary(environment.clock)
        self.validated: Robustness | None = None
        """The last validation of the better of raw and averaged weights."""

    def _placed(self, model: CamClassifier) -> CamClassifier:
        layout = (
            torch.channels_last if self.spec.training.channels_last else torch.contiguous_format
        )
        return model.to(self.device).to(memory_format=layout)

    def _attacked_twin(self) -> tuple[Twin | None, str | None]:
        """Return what attacks see in the network's place, and why it is not compiled."""
        training = self.spec.training
        plain = training.attack_precision == "fp32" and not training.fold_batch_norm
        if isinstance(self.method, s.Standard) or (plain and training.compile == "off"):
            return None, None
        twin = Twin(
            self.model, DTYPES[training.attack_precision], with_folding=training.fold_batch_norm
        )
        x = to_unit(self.train.x[: training.batch_size])
        found = compiled(twin.network.body, x, training.compile)
        twin.network.body = found.module
        return twin, found.refused

    def _combiner(self) -> Combiner | None:
        made = build.combiner(self.method.cam) if isinstance(self.method, s.Part) else None
        return None if made is None else made.to(self.device)

    def _map_cache(self) -> MapCache | None:
        if not isinstance(self.method, s.Part) or self.method.cam.refresh.kind == "every-step":
            return None
        height, width = self.train.x.shape[-2:]
        return MapCache(len(self.train), (height, width), self.device)

    @property
    def steps_per_epoch(self) -> int:
        """Steps an epoch; a last batch of under two images a rank is left out (batch norm)."""
        whole, rest = divmod(len(self.train), self.spec.training.batch_size)
        return whole + (rest >= 2 * self.ranks.size)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.steps_per_epoch * self.spec.training.epochs

    @property
    def epoch(self) -> int:
        """The epoch the next step belongs to, from 0."""
        return self.step // self.steps_per_epoch

    # -- one step -----------------------------------------------------------------------------

    def update(self, index: Tensor) -> dict[str, float]:
        """Perturb one batch, take one optimiser step; return what to record of it.

        index: (B,), the batch on all ranks. Raises ExperimentError when the loss is not finite.
        """
        batch, record = self.perturbed(index)
        rate = self.learning_rate(self.progress)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        # Dropout and stochastic depth of torchvision's networks draw from the global generator.
        torch.manual_seed(derive(self.spec.seed, "dropout", self.step, self.ranks.rank))
        stepped = self.step_down(batch, awp=self._awp())
        if self.average is not None:
            self.average.update(self.model, self.step)
        if record:
            self.mask_record = dict(record)
        return {
            "train/loss": stepped.loss,
            f"train/{self._accuracy_name()}": stepped.accuracy,
            "train/learning_rate": rate,
            **record,
        }

    @property
    def progress(self) -> float:
        """How much of the run is behind, in [0, 1)."""
        return self.step / self.total_steps

    def perturbed(self, index: Tensor) -> tuple[Batch, dict[str, float]]:
        """Return this rank's share of a batch after the method, and what to record of it."""
        index = index.to(self.device)
        images = self.train.x[index]
        warp = self.augmentation.draw(images.shape, generator=self.streams.augment)
        share = self.ranks.share(len(index))
        x = self._laid_out(to_unit(warp(images)[share]))
        y, index = self.train.y[index[share]], index[share]
        network = self._attacked()
        before = self.streams.attack.get_state()
        found = []
        with evaluating(network), frozen(network):
            for part in _parts(len(y), self.spec.training.accumulation):
                self.streams.attack.set_state(before)
                first = share.start
                drawn = slice(first + part.start, first + part.stop)
                randomness = Share(self.streams.attack, drawn, len(images))
                method = perturbation(
                    self.method,
                    epoch=self.epoch,
                    progress=self.progress,
                    kept=self._kept(index[part], y[part], warp.part(drawn)),
                    learned=self.combiner,
                )
                found.append(method(network, x[part], y[part], generator=randomness))
            learned = self._learn_to_combine(network, x, y)
        x_adv = torch.cat([one.x for one in found])
        record = _mean([one.record for one in found]) | learned
        return Batch(x, x_adv, y, len(images)), record

    def _learn_to_combine(self, network: CamClassifier, x: Tensor, y: Tensor) -> dict[str, float]:
        """Let a learned ensemble take a step, now and then; return what to record of it."""
        if self.combiner is None or not isinstance(self.method, s.Part):
            return {}
        if self.epoch < self.method.warmup_epochs or self.step % LEARN_EVERY:
            return {}
        maps = build.ensemble(self._cam(), self.progress, self.combiner)
        assert isinstance(maps, Learned)
        readout = read(network, x, y)
        loss = learn(maps, readout, rate=LEARN_RATE)
        self.ranks.follow_first(self.combiner.parameters())
        with torch.no_grad():
            shares = self.combiner(maps.heatmaps(readout)).mean(dim=1).tolist()
        told = {f"cam/share/{n}": v for n, v in zip(self._cam().members, shares, strict=True)}
        return {"cam/masked_loss": loss, **told}

    def _attacked(self) -> CamClassifier:
        """Return the network that attacks see, with the weights of the moment."""
        if self.twin is None:
            return self.model
        self.twin.refresh()
        return self.twin.network

    def _laid_out(self, x: Tensor) -> Tensor:
        if self.spec.training.channels_last:
            return x.contiguous(memory_format=torch.channels_last)
        return x.contiguous()

    def _kept(self, index: Tensor, y: Tensor, warp: Warp) -> CachedMaps | None:
        if self.kept is None:
            return None
        x = self._laid_out(to_unit(self.train.x[index]))
        refresh = build.refresh(self._cam().refresh, self.refresh_epochs)
        return CachedMaps(self.kept, refresh, index, x, y, warp, self.step, self.steps_per_epoch)

    def _cam(self) -> s.CamSpec:
        assert isinstance(self.method, s.Part)
        return self.method.cam

    def _awp(self) -> float | None:
        awp = None if isinstance(self.method, s.Standard) else self.method.awp
        return None if awp is None or self.epoch < awp.warmup_epochs else awp.gamma

    def _accuracy_name(self) -> str:
        return "accuracy" if isinstance(self.method, s.Standard) else "adversarial_accuracy"

    # -- the loop -----------------------------------------------------------------------------

    def run(self) -> Iterator[Event]:
        """Train to the end from wherever the state stands."""
        if self.refused is not None:
            message = f"training.compile fell back to running as written: {self.refused}"
            yield Log(level="warning", message=message)
        while self.step < self.total_steps and not self.has_stopped:
            yield from self._rest_of_epoch()

    @property
    def has_stopped(self) -> bool:
        """Whether the best weights are so old that the run asked to end."""
        patience = self.spec.training.early_stop
        if patience is None or self.best is None or self.step % self.steps_per_epoch:
            return False
        return self.epoch - self.best.epoch >= patience

    def _rest_of_epoch(self) -> Iterator[Event]:
        epoch = self.epoch
        order = epoch_order(len(self.train), seed=self.spec.seed, epoch=epoch)
        batches = torch.split(order, self.spec.training.batch_size)[: self.steps_per_epoch]
        for index in batches[self.step % self.steps_per_epoch :]:
            record = self.update(index)
            self.diary.note(record, self.step)
            if self.step % METRICS_EVERY == 0 or (self.step + 1) % self.steps_per_epoch == 0:
                self.metrics.add(self.step, record)
            self.step += 1
            rate = self.throughput.count(len(index))
            yield self._progress(epoch).model_copy(update={"images_per_second": rate})
            ended = self.step % self.steps_per_epoch == 0
            asked = self.environment.checkpoint_requested()
            if not ended and (asked or self._is_overdue()):
                yield from self.save_last()
                if asked:
                    yield Log(message=f"checkpoint asked for: saved step {self.step}")
        yield from self._end_of_epoch(epoch)

    def _is_overdue(self) -> bool:
        """Whether more would be lost with this attempt than the run allows."""
        minutes = self.spec.training.checkpoint_minutes
        return minutes is not None and self.environment.clock() - self.saved_at >= 60 * minutes

    def _end_of_epoch(self, epoch: int) -> Iterator[Event]:
        training = self.spec.training
        is_last = epoch + 1 == training.epochs
        if len(self.validation) and ((epoch + 1) % training.validate_every == 0 or is_last):
            yield from self.validate(epoch)
        yield from self._watch_the_maps(epoch)
        yield from self.metrics.flush()
        yield from self.diary.warnings(epoch + 1)
        yield self.diary.close(
            epoch=epoch + 1,
            epochs=training.epochs,
            step=self.step,
            steps=self.total_steps,
            best=self.best,
        )
        if self.has_stopped:
            assert self.best is not None
            yield Log(message=f"stopped early: the best weights are of epoch {self.best.epoch}")
        kept = training.keep_every is not None and (epoch + 1) % training.keep_every == 0
        due = kept or (epoch + 1) % training.checkpoint_every == 0
        if due or is_last or self.has_stopped or self.environment.checkpoint_requested():
            for event in self.save_last():
                # Before the last: an attempt that ends between the two says both again.
                if kept and isinstance(event, CheckpointSaved):
                    yield (copy := event.model_copy(update={"role": "kept"}))
                    yield Log(message=f"kept {copy.name}")
                yield event

    def _watch_the_maps(self, epoch: int) -> Iterator[Event]:
        """Ask whether estimated scores are near the exact ones, and kept maps still true."""
        method = self.method
        if not isinstance(method, s.Part) or epoch + 1 < method.warmup_epochs:
            return
        yield from self._hold_the_floor(method)
        drift = None if self.kept is None else self.kept.take_drift()
        if drift is not None:
            self.metrics.add(self.step - 1, {"cam/overlap": drift})
            if isinstance(method.cam.refresh, s.AdaptiveRefresh):
                alike = drift >= method.cam.refresh.overlap
                self.refresh_epochs = max(
                    1, self.refresh_epochs * 2 if alike else self.refresh_epochs // 2
                )
                self.metrics.add(self.step - 1, {"cam/refresh_epochs": self.refresh_epochs})

    def _hold_the_floor(self, method: s.Part) -> Iterator[Event]:
        if not score_ladder.is_estimated(method):
            return
        judged = self.validation if len(self.validation) else self.train
        images = judged.take(
            torch.arange(min(score_ladder.IMAGES, len(judged)), device=self.device)
        )
        network = self._attacked()
        x = self._laid_out(to_unit(images.x))
        found = score_ladder.measured(network, x, images.y, method, self.progress)
        self.metrics.add(self.step - 1, {"cam/fidelity": found})
        floor = method.cam.fidelity_floor
        next_best = score_ladder.better(method.cam.scores, narrow=self.narrow)
        if floor is not None and found < floor and next_best is not None:
            self.method = score_ladder.with_scores(method, next_best)
            yield Log(
                level="warning",
                message=f"budgets follow exact Score-CAM's by {found:.3f}, under the floor "
                f"{floor}: scores move from {_named(method.cam.scores)} to {_named(next_best)}",
            )

    def _progress(self, epoch: int) -> Progress:
        return Progress(
            phase="train",
            done=self.step,
            total=self.total_steps,
            unit="step",
            epoch=epoch + 1,
            epochs=self.spec.training.epochs,
            loss=self.diary.loss,
            accuracy=self.validated.clean if self.validated else None,
            robust_accuracy=self.validated.pgd if self.validated else None,
        )

    # -- validation ---------------------------------------------------------------------------

    def validate(self, epoch: int) -> Iterator[Event]:
        """Attack raw and averaged weights on held-out images; keep the best of all so far."""
        if self.ranks.is_first:
            yield from self._validate(epoch)
        self.best = self._agreed(self.best)

    def _agreed(self, best: Best | None) -> Best | None:
        """Return rank 0's best weights."""
        if self.ranks.size == 1:
            return best
        known = (0, 0, 0, 0) if best is None else tuple(float(v) for v in astuple(best))
        told = torch.tensor(known, dtype=torch.float64, device=self.device)
        self.ranks.follow_first([told])
        epoch, averaged, accuracy, robust = told.tolist()
        return Best(int(epoch), bool(averaged), accuracy, robust)

    def _validate(self, epoch: int) -> Iterator[Event]:
        clean_only, best_now = isinstance(self.method, s.Standard), None
        epochs = self.spec.training.epochs
        for averaged, network in self._networks():
            told = robustness(network, self.validation, epsilon=self._radius(), seed=self.spec.seed)
            prefix = "val/ema/" if averaged else "val/"
            record = {"accuracy": told.clean, "fgsm": told.fgsm, "robust_accuracy": told.pgd}
            self.metrics.add(self.step - 1, {prefix + name: v for name, v in record.items()})
            if told.has_collapsed and not averaged and not clean_only:
                yield Log(level="warning", message=_collapse(epoch, told))
            found = Best(epoch + 1, averaged, told.clean, told.pgd)
            self.diary.validated += ((averaged, told),)
            if found.beats(best_now, clean_only=clean_only):
                best_now, self.validated = found, told
            if found.beats(self.best, clean_only=clean_only):
                self.best = found
                yield from self.save_best(network)
        yield self._progress(epoch).model_copy(
            update={"phase": "validate", "done": epoch + 1, "total": epochs, "unit": "pass"}
        )
        self.throughput = Throughput(self.environment.clock)

    def _networks(self) -> list[tuple[bool, CamClassifier]]:
        found = [(False, self.model)]
        if self.average is not None:
            averaged = self.average.model
            assert isinstance(averaged, CamClassifier)
            found.append((True, averaged))
        return found

    def _radius(self) -> float:
        return float(s.trained_radius(self.spec.method) or self.spec.evaluation.epsilon)

    # -- checkpoints --------------------------------------------------------------------------

    def save_best(self, network: nn.Module) -> Iterator[Event]:
        """Write the weights just found best."""
        if self.ranks.is_first:
            tensors = {
                **checkpoint.prefixed("model", network.state_dict()),
                **self._combiner_state(),
            }
            yield self._saved(BEST, "best", tensors)

    def save_last(self) -> Iterator[Event]:
        """Write everything a later attempt needs; metrics before it are given out first."""
        yield from self.metrics.flush()
        self.saved_at = self.environment.clock()
        if not self.ranks.is_first:
            return
        tensors = {
            **checkpoint.prefixed("model", self.model.state_dict()),
            **checkpoint.prefixed("stream", self.streams.state()),
            **checkpoint.prefixed("momentum", self._momentum()),
            **self._combiner_state(),
        }
        if self.average is not None:
            tensors |= checkpoint.prefixed("average", self.average.model.state_dict())
        if self.kept is not None:
            tensors |= checkpoint.prefixed("maps", self.kept.state())
        yield self._saved(LAST, "last", tensors)

    def _combiner_state(self) -> dict[str, Tensor]:
        if self.combiner is None:
            return {}
        return checkpoint.prefixed("combiner", self.combiner.state_dict())

    def _momentum(self) -> dict[str, Tensor]:
        return {
            name: self.optimiser.state[parameter]["momentum_buffer"]
            for name, parameter in self.model.named_parameters()
            if "momentum_buffer" in self.optimiser.state[parameter]
        }

    def _saved(
        self, file: str, role: Literal["last", "best"], tensors: dict[str, Tensor]
    ) -> CheckpointSaved:
        saved = checkpoint.save(self.environment.work / file, tensors, self._metadata())
        return CheckpointSaved(
            file=file,
            role=role,
            sha256=saved.sha256,
            size=saved.size,
            epoch=self.epoch,
            step=self.step,
        )

    def _metadata(self) -> dict[str, Any]:
        return {
            "format": 1,
            "step": self.step,
            "best": None if self.best is None else asdict(self.best),
            "mask": self.mask_record,
            "scores": _scores(self.method),
            "refresh_epochs": self.refresh_epochs,
            "scaler": self.step_down.scaler.state_dict(),
            "diary": self.diary.state(),
            "made_on": self.made_on,
            "spec": deciding(self.spec),
        }

    def resume(self, path: Path) -> None:
        """Take up the state of a checkpoint. Raises CheckpointInvalid if it is of another spec."""
        tensors, metadata = checkpoint.load(path)
        if metadata.get("spec") != deciding(self.spec):
            raise CheckpointInvalid(f"{path.name} belongs to a run with another spec")
        self.model.load_state_dict(checkpoint.under(tensors, "model"))
        if self.average is not None:
            self.average.model.load_state_dict(checkpoint.under(tensors, "average"))
        self.streams.restore(checkpoint.under(tensors, "stream"))
        buffers = checkpoint.under(tensors, "momentum")
        for name, parameter in self.model.named_parameters():
            if name in buffers:
                buffer = torch.empty_like(parameter).copy_(buffers[name])
                self.optimiser.state[parameter]["momentum_buffer"] = buffer
        self.step = metadata["step"]
        self.best = None if metadata["best"] is None else Best(**metadata["best"])
        self.mask_record = metadata["mask"]
        self.refresh_epochs = metadata["refresh_epochs"]
        self.step_down.scaler.load_state_dict(metadata["scaler"])
        self.diary.restore(metadata.get("diary"))
        if self.kept is not None:
            self.kept.restore(checkpoint.under(tensors, "maps"))
        if self.combiner is not None:
            self.combiner.load_state_dict(checkpoint.under(tensors, "combiner"))
        if isinstance(self.method, s.Part):
            scores = s.CamSpec.model_validate({"scores": metadata["scores"]}).scores
            scores = scores if self.narrow else score_ladder.widened(scores)
            self.method = score_ladder.with_scores(self.method, scores)
        earlier = metadata.get("made_on", [])
        self.made_on = moved(earlier, self.made_on[-1])
        self.has_moved = bool(earlier) and self.made_on is not earlier

    def finish(self) -> Iterator[Event]:
        """See that there are `best` weights: the last ones where nothing was held out."""
        if self.best is None:
            yield Log(level="warning", message="nothing was held out: the last weights are `best`")
            self.best = Best(
                self.spec.training.epochs,
                averaged=False,
                accuracy=math.nan,
                robust_accuracy=math.nan,
            )
            yield from self.save_best(self.model)
        yield narration.training_ended(self.best, self.epoch)


def _parts(count: int, parts: int) -> list[slice]:
    """Return ``count`` samples in near equal parts, as :meth:`Batch.parts` divides them."""
    pieces = torch.arange(count).tensor_split(min(parts, count))
    return [slice(int(piece[0]), int(piece[-1]) + 1) for piece in pieces]


def _mean(records: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: math.fsum(r[name] for r in records) / len(records) for name in records[0]}


def _scores(method: s.Method) -> dict[str, Any] | None:
    return method.cam.scores.model_dump(mode="json") if isinstance(method, s.Part) else None


def _named(scoring: s.ScoringSpec) -> str:
    count = f" of {scoring.centroids}" if isinstance(scoring, s.ClusteredScoring) else ""
    return scoring.kind + count


def _collapse(epoch: int, told: Robustness) -> str:
    return (
        f"epoch {epoch + 1}: FGSM leaves {100 * told.fgsm:.1f} %, PGD {100 * told.pgd:.1f} %: the "
        "network learned the single step alone (catastrophic overfitting); take more "
        "method.attack.steps or a smaller step_size"
    )


def deciding(spec: s.TrainSpec) -> dict[str, Any]:
    """Return the part of a spec that decides the weights.

    How many micro-batches there are does too, but a run that may halve them goes on with more.
    """
    told = spec.model_dump(mode="json", include={"seed", "data", "model", "method", "training"})
    del told["training"]["keep_every"]
    if told["training"].pop("halve_on_out_of_memory"):
        del told["training"]["accumulation"]
    return told
