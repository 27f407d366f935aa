"""What each process of test_ranks.py runs: twenty steps of training, in float64, no batch norm."""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from domain.presets import expand
from partcore import training
from partcore.data import load, to_unit
from partcore.environment import Environment
from partcore.models.classifier import assemble
from partcore.ranks import Ranks

STEPS = 20
SPEC = {
    "preset": "part++",
    "data": {"dataset": "digits", "train_limit": 250, "test_limit": 20},
    "method": {"warmup_epochs": 1, "control": "random", "attack": {"steps": 2}},
    "training": {"epochs": 10, "batch_size": 50, "fold_batch_norm": False, "learning_rate": 0.02},
}


def network(*, channels, classes, mean, std, generator):
    body = nn.Sequential(
        nn.Conv2d(channels, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 16, 3), nn.ReLU()
    )
    made = assemble(
        body, width=16, classes=classes, mean=mean, std=std, generator=generator
    ).double()
    # batch norm counts a batch; here nothing depends on how the batch is divided
    assert not any(isinstance(m, nn.BatchNorm2d) for m in made.modules())
    return made


def main(out: str) -> None:
    ranks = Ranks.from_environment()
    training.build.builder = lambda _name: network
    training.to_unit = lambda x: to_unit(x).double()
    spec = expand(SPEC)
    work = Path(out) / f"rank{ranks.rank}"
    with ranks.joined("cpu"):
        trainer = training.Trainer(
            spec, load(spec.data, work, seed=1), Environment(work, work, ranks=ranks)
        )
        kept = {}
        for step in range(STEPS):
            order = training.epoch_order(len(trainer.train), seed=1, epoch=trainer.epoch)
            at = step % trainer.steps_per_epoch
            trainer.update(order[50 * at :][:50])
            if step == 0:
                kept = {
                    f"gradient/{n}": p.grad.clone() for n, p in trainer.model.named_parameters()
                }
            trainer.step += 1
        kept |= {f"weight/{n}": p.detach() for n, p in trainer.model.named_parameters()}
        kept |= {f"average/{n}": p for n, p in trainer.average.model.state_dict().items()}
    kept = {name: tensor.contiguous() for name, tensor in kept.items()}
    save_file(kept, str(Path(out) / f"{ranks.size}-{ranks.rank}.safetensors"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1])
