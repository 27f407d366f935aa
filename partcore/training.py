"""Training: warm-up, reweighted attack, update, average, validation, checkpoints, exact resume.

The whole state is in :class:`Trainer`; the position is one number, the global step. Data order is a
function of (seed, epoch), every other draw comes from a stream whose state a checkpoint holds, so a
run that is cut anywhere and resumed ends in the same bits.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from domain.errors import CheckpointInvalid, ExperimentError
from domain.events import CheckpointSaved, Event, Log, Progress
from domain.spec import Standard, TrainSpec, trained_radius
from partcore import build, checkpoint
from partcore.attacks import Pgd
from partcore.awp import perturbed_weights
from partcore.data import Images, Split, to_unit
from partcore.ema import Average
from partcore.environment import Environment
from partcore.methods import perturbation
from partcore.models import CamClassifier
from partcore.modes import evaluating, frozen
from partcore.progress import MetricBuffer, Throughput
from partcore.randomness import Streams, derive, epoch_order, generator

METRICS_EVERY = 10
"""Steps between two points of the step-wise series; an epoch's last step has one too."""
LAST, BEST = "checkpoints/last.safetensors", "checkpoints/best.safetensors"
VALIDATION_STEPS = 10


@dataclass(frozen=True)
class Best:
    """The best weights so far, by validation."""

    epoch: int
    averaged: bool
    accuracy: float
    robust_accuracy: float

    def beats(self, other: "Best | None", *, clean_only: bool) -> bool:
        """Compare by robust accuracy (clean for `standard`), then by the other; ties go earlier."""
        if other is None:
            return True
        mine, theirs = (
            (b.accuracy, b.robust_accuracy) if clean_only else (b.robust_accuracy, b.accuracy)
            for b in (self, other)
        )
        return mine > theirs


class Trainer:
    """The state of one training run and its moves."""

    def __init__(self, spec: TrainSpec, split: Split, environment: Environment) -> None:
        self.spec = spec
        self.environment = environment
        self.device = environment.device
        self.train = split.train.to(self.device)
        self.validation = split.validation.to(self.device)
        self.model = self._placed(build.model(spec.model, split, seed=spec.seed))
        decay = spec.training.ema_decay
        self.average = None if decay is None else Average(self.model, decay)
        self.optimiser = torch.optim.SGD(
            self.model.parameters(),
            lr=spec.training.learning_rate,
            momentum=spec.training.momentum,
            weight_decay=spec.training.weight_decay,
            nesterov=spec.training.nesterov and spec.training.momentum > 0,
        )
        self.objective = build.objective(spec.method)
        self.learning_rate = build.learning_rate(spec.training)
        self.augmentation = build.augmentation(spec.data)
        self.streams = Streams.of(spec.seed)
        self.step = 0
        self.best: Best | None = None
        self.mask_record: dict[str, float] | None = None
        self.metrics = MetricBuffer()
        self.throughput = Throughput(environment.clock)

    def _placed(self, model: CamClassifier) -> CamClassifier:
        layout = (
            torch.channels_last if self.spec.training.channels_last else torch.contiguous_format
        )
        return model.to(self.device).to(memory_format=layout)

    @property
    def steps_per_epoch(self) -> int:
        """Steps an epoch; a last batch of one image is left out (batch norm needs two)."""
        whole, rest = divmod(len(self.train), self.spec.training.batch_size)
        return whole + (rest > 1)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.steps_per_epoch * self.spec.training.epochs

    @property
    def epoch(self) -> int:
        """The epoch the next step belongs to, from 0."""
        return self.step // self.steps_per_epoch

    # -- one step -----------------------------------------------------------------------------

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return augmented images in [0, 1], (B, C, H, W), and labels, (B,)."""
        index = index.to(self.device)
        x = self.augmentation(self.train.x[index], generator=self.streams.augment)
        x = to_unit(x)
        if self.spec.training.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        return x, self.train.y[index]

    def update(self, index: Tensor) -> dict[str, float]:
        """Perturb one batch, take one optimiser step; return what to record of it.

        Raises ExperimentError when the loss is not finite.
        """
        x, y = self.batch(index)
        progress = self.step / self.total_steps
        method = perturbation(self.spec.method, epoch=self.epoch, progress=progress)
        with evaluating(self.model), frozen(self.model):
            perturbed = method(self.model, x, y, generator=self.streams.attack)
        rate = self.learning_rate(progress)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.model.train()
        # Dropout and stochastic depth of torchvision's networks draw from the global generator.
        torch.manual_seed(derive(self.spec.seed, "dropout", self.step))
        loss, logits = self._descend(x, perturbed.x, y)
        self.optimiser.step()
        if self.average is not None:
            self.average.update(self.model, self.step)
        if perturbed.record:
            self.mask_record = dict(perturbed.record)
        accuracy = (logits.argmax(dim=1) == y).float().mean().item()
        return {
            "train/loss": loss,
            f"train/{self._accuracy_name()}": accuracy,
            "train/learning_rate": rate,
            **perturbed.record,
        }

    def _descend(self, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[float, Tensor]:
        """Leave the gradients of the objective in the weights; return its value and the logits."""
        self.optimiser.zero_grad(set_to_none=True)
        with self._weights_under_attack(x, x_adv, y):
            descent = self.objective(self.model, x, x_adv, y)
            loss = descent.loss.mean()
            if not torch.isfinite(loss):
                raise ExperimentError(
                    f"the loss is {loss.item()} at step {self.step}; lower training.learning_rate "
                    f"(it is {self.spec.training.learning_rate})"
                )
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.item(), descent.logits_adv.detach()

    def _weights_under_attack(
        self, x: Tensor, x_adv: Tensor, y: Tensor
    ) -> AbstractContextManager[None]:
        method = self.spec.method
        awp = None if isinstance(method, Standard) else method.awp
        if awp is None or self.epoch < awp.warmup_epochs:
            return nullcontext()
        return perturbed_weights(
            self.model,
            lambda: self.objective(self.model, x, x_adv, y).loss.mean(),
            gamma=awp.gamma,
        )

    def _accuracy_name(self) -> str:
        return "accuracy" if isinstance(self.spec.method, Standard) else "adversarial_accuracy"

    # -- the loop -----------------------------------------------------------------------------

    def run(self) -> Iterator[Event]:
        """Train to the end from wherever the state stands."""
        while self.step < self.total_steps:
            yield from self._rest_of_epoch()

    def _rest_of_epoch(self) -> Iterator[Event]:
        epoch = self.epoch
        order = epoch_order(len(self.train), seed=self.spec.seed, epoch=epoch)
        batches = torch.split(order, self.spec.training.batch_size)[: self.steps_per_epoch]
        for index in batches[self.step % self.steps_per_epoch :]:
            record = self.update(index)
            if self.step % METRICS_EVERY == 0 or (self.step + 1) % self.steps_per_epoch == 0:
                self.metrics.add(self.step, record)
            self.step += 1
            yield self._progress(epoch, len(index))
            ended = self.step % self.steps_per_epoch == 0
            if not ended and self.environment.checkpoint_requested():
                yield from self.save_last()
        yield from self._end_of_epoch(epoch)

    def _end_of_epoch(self, epoch: int) -> Iterator[Event]:
        training = self.spec.training
        is_last = epoch + 1 == training.epochs
        if len(self.validation) and ((epoch + 1) % training.validate_every == 0 or is_last):
            yield from self.validate(epoch)
        yield from self.metrics.flush()
        due = (epoch + 1) % training.checkpoint_every == 0
        if due or is_last or self.environment.checkpoint_requested():
            yield from self.save_last()

    def _progress(self, epoch: int, images: int) -> Progress:
        return Progress(
            phase="train",
            done=self.step,
            total=self.total_steps,
            unit="step",
            epoch=epoch + 1,
            epochs=self.spec.training.epochs,
            images_per_second=self.throughput.count(images),
        )

    # -- validation ---------------------------------------------------------------------------

    def validate(self, epoch: int) -> Iterator[Event]:
        """Attack raw and averaged weights on held-out images; keep the best of all so far."""
        done = Progress(
            phase="validate",
            done=epoch + 1,
            total=self.spec.training.epochs,
            unit="pass",
            epoch=epoch + 1,
            epochs=self.spec.training.epochs,
        )
        for averaged, network in self._networks():
            accuracy, robust = robustness(
                network, self.validation, epsilon=self._radius(), seed=self.spec.seed
            )
            prefix = "val/ema/" if averaged else "val/"
            record = {f"{prefix}accuracy": accuracy, f"{prefix}robust_accuracy": robust}
            self.metrics.add(self.step - 1, record)
            found = Best(epoch + 1, averaged, accuracy, robust)
            if found.beats(self.best, clean_only=isinstance(self.spec.method, Standard)):
                self.best = found
                yield self.save_best(network)
        yield done
        self.throughput = Throughput(self.environment.clock)

    def _networks(self) -> list[tuple[bool, CamClassifier]]:
        found = [(False, self.model)]
        if self.average is not None:
            averaged = self.average.model
            assert isinstance(averaged, CamClassifier)
            found.append((True, averaged))
        return found

    def _radius(self) -> float:
        return float(trained_radius(self.spec.method) or self.spec.evaluation.epsilon)

    # -- checkpoints --------------------------------------------------------------------------

    def save_best(self, network: nn.Module) -> CheckpointSaved:
        """Write the weights just found best."""
        tensors = checkpoint.prefixed("model", network.state_dict())
        return self._saved(BEST, "best", tensors)

    def save_last(self) -> Iterator[Event]:
        """Write everything a later attempt needs; metrics before it are given out first."""
        yield from self.metrics.flush()
        tensors = {
            **checkpoint.prefixed("model", self.model.state_dict()),
            **checkpoint.prefixed("stream", self.streams.state()),
            **checkpoint.prefixed("momentum", self._momentum()),
        }
        if self.average is not None:
            tensors |= checkpoint.prefixed("average", self.average.model.state_dict())
        yield self._saved(LAST, "last", tensors)

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
            yield self.save_best(self.model)


def deciding(spec: TrainSpec) -> dict[str, Any]:
    """Return the part of a spec that decides the weights."""
    return spec.model_dump(mode="json", include={"seed", "data", "model", "method", "training"})


def robustness(
    model: CamClassifier, images: Images, *, epsilon: float, seed: int, batch_size: int = 512
) -> tuple[float, float]:
    """Return clean accuracy and accuracy under PGD-10, with noise that is the same every time."""
    noise = generator(seed, "validation")
    attack = Pgd(step_size=epsilon / 4, num_steps=VALIDATION_STEPS)
    clean = robust = 0
    with evaluating(model), frozen(model):
        for start in range(0, len(images), batch_size):
            x, y = to_unit(images.x[start : start + batch_size]), images.y[start:][:batch_size]
            unit = 2 * torch.rand(x.shape, generator=noise).to(x.device) - 1
            with torch.no_grad():
                right = model(x).argmax(dim=1) == y
            clean += int(right.sum())
            attempt = attack(model, x[right], y[right], epsilon, unit[right])
            robust += int((~attempt.broken).sum())
    return clean / len(images), robust / len(images)
