"""The network that figures are measured on: trained here on photographs, once, and kept."""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from domain.events import Event, Log, Progress
from domain.presets import expand
from domain.spec import TrainSpec
from partcore import build, checkpoint
from partcore.data import Images, Split, load, to_unit
from partcore.environment import Environment
from partcore.machine import emulates
from partcore.models import CamClassifier
from partcore.modes import evaluating
from partcore.training import Trainer

FOLDER, SEED = "cifar10-jpeg", 0
KEPT = Path(__file__).parents[1] / ".bench"
TRAINED, JUDGED, FRESH = 25_000, 1000, 64
"""Images trained on; test images for its accuracy; those of them that maps are compared on."""
LEAST_ACCURACY = 0.6


@dataclass(frozen=True)
class Subject:
    """A trained network, the test images it is judged on, and how well it does."""

    model: CamClassifier
    test: Images
    accuracy: float

    def fresh(self, count: int) -> tuple[Tensor, Tensor]:
        """Return the first ``count`` test images going round the classes: x in [0, 1], y."""
        order = torch.argsort(_turn(self.test.y) * 10_000 + self.test.y, stable=True)[:count]
        x = to_unit(self.test.x[order])
        return x.contiguous(memory_format=torch.channels_last), self.test.y[order]


def _turn(y: Tensor) -> Tensor:
    """Return how many images of the same class come before each, (N,)."""
    belongs = torch.nn.functional.one_hot(y)
    return (belongs.cumsum(dim=0) - 1).gather(1, y[:, None])[:, 0]


def spec() -> TrainSpec:
    """Return the training run: three passes over half of the images, plain, in minutes."""
    body: dict[str, Any] = {
        "preset": "standard",
        "data": {
            **{"dataset": "image-folder", "folder": FOLDER, "classes": 10, "pad": 0, "flip": True},
            **{"train_limit": TRAINED, "test_limit": JUDGED, "validation_fraction": 0.0},
        },
        "model": {"name": "resnet18"},
        "training": {
            **{"epochs": 3, "batch_size": 50, "learning_rate": 0.04, "ema_decay": None},
            "update_precision": "fp32" if emulates("bf16", "cpu") else "bf16",
        },
        "evaluation": {"epsilon": "8/255"},
        "seed": SEED,
    }
    found = expand(body)
    assert isinstance(found, TrainSpec)
    return found


def subject(data_root: Path) -> Subject:
    """Return the network from ``.bench/``, trained now where it is not there.

    Raises DataMissing without the folder of images.
    """
    wanted = spec()
    file = KEPT / f"resnet18-{checkpoint_name(wanted)}.safetensors"
    kept = file.exists()
    split = load(_shortened(wanted, short=kept).data, data_root, seed=wanted.seed)
    model = _read(file, wanted, split) if kept else _train(file, wanted, split, data_root)
    return Subject(model, split.test, accuracy(model, split.test))


def checkpoint_name(wanted: TrainSpec) -> str:
    """Return a name that changes with whatever decides the weights."""
    deciding = wanted.model_dump_json(include={"seed", "data", "model", "method", "training"})
    return hashlib.sha256(deciding.encode()).hexdigest()[:12]


def _shortened(wanted: TrainSpec, *, short: bool) -> TrainSpec:
    """Read few training images when none is trained on."""
    limit = 100 if short else TRAINED
    data = wanted.data.model_copy(update={"train_limit": limit})
    return wanted.model_copy(update={"data": data})


def _read(file: Path, wanted: TrainSpec, split: Split) -> CamClassifier:
    model = build.model(wanted.model, split, seed=wanted.seed)
    tensors, _ = checkpoint.load(file)
    build.load_weights(model, checkpoint.under(tensors, "model"), source=file.name)
    return model.to(memory_format=torch.channels_last)


def _train(file: Path, wanted: TrainSpec, split: Split, data_root: Path) -> CamClassifier:
    print(f"training a ResNet-18 on {len(split.train):,} images, once; kept in .bench/", flush=True)
    with tempfile.TemporaryDirectory() as work:
        environment = Environment(Path(work), data_root, threads=torch.get_num_threads())
        trainer = Trainer(wanted, split, environment)
        for event in trainer.run():
            _tell(event)
    weights = checkpoint.prefixed("model", trainer.model.state_dict())
    checkpoint.save(file, weights, {"spec": wanted.model_dump(mode="json")})
    return trainer.model


def _tell(event: Event) -> None:
    match event:
        case Progress() if event.done % 100 == 0 and event.images_per_second:
            rate = f"{event.images_per_second:.0f} images/s"
            print(f"  step {event.done} of {event.total}, {rate}", flush=True)
        case Log():
            print(f"  {event.message}", flush=True)
        case _:
            pass


@torch.no_grad()
def accuracy(model: CamClassifier, images: Images) -> float:
    """Return the share of images a network gets right."""
    with evaluating(model):
        batches = zip(torch.split(to_unit(images.x), 100), torch.split(images.y, 100), strict=True)
        right = sum(int((model(x).argmax(dim=1) == y).sum()) for x, y in batches)
    return right / len(images)
