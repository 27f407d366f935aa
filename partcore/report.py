"""The command line of the PART++ report's reproduction instructions, as a spec.

Every flag means what the report says; what it leaves open is its own: Eq. 7 in its first form, no
weight average, validation images held out (the report chose its weights on test images, defect 13).
"""

import argparse
from typing import Any

DATASETS = {"CIFAR10": "cifar10", "CIFAR100": "cifar100", "SVHN": "svhn", "DIGITS": "digits"}
MODELS = {"wideresnet34-10": "wrn-34-10", "wideresnet28-10": "wrn-28-10"}
NO_RUN = "0" * 18
"""Stands for the run of a checkpoint that no lab trained."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the report's flags."""
    flags = parser.add_argument_group("the report's own flags, instead of --spec")
    flags.add_argument("--data", choices=[*DATASETS, *map(str.lower, DATASETS)], help="dataset")
    flags.add_argument("--model", default="resnet18", help="resnet18, wideresnet34-10, ...")
    flags.add_argument("--epochs", type=int, default=30)
    flags.add_argument("--warm-up", type=int, default=5, help="epochs of PGD-AT before the mask")
    flags.add_argument("--batch-size", type=int, default=256)
    flags.add_argument("--lr", type=float, default=0.1)
    flags.add_argument("--optimizer", choices=["sgd"], default="sgd")
    flags.add_argument("--momentum", type=float, default=0.9)
    flags.add_argument("--weight-decay", type=float, default=5e-4)
    flags.add_argument(
        "--lr-scheduler", choices=["cosine", "constant", "multistep"], default="cosine"
    )
    flags.add_argument("--tau", type=float, default=10.0, help="steepness of the mask (Eq. 7)")
    flags.add_argument("--epsilon", default="8/255", help="radius where the mask is 1")
    flags.add_argument("--low-epsilon", default="7/255", help="radius where the mask is 0")
    flags.add_argument("--attack-iters-train", type=int, default=10)
    flags.add_argument("--attack-step-size-train", default="2/255")
    flags.add_argument("--use-ensemble-cam", action="store_true", help="PART++: three maps")
    flags.add_argument("--save-freq", type=int, default=2, help="epochs between checkpoints")
    flags.add_argument("--seed", type=int, default=42)
    flags.add_argument("--train-limit", type=int, help="use so many training images")
    flags.add_argument("--test-limit", type=int, help="attack so many test images")
    flags.add_argument("--evaluate-only", action="store_true", help="attack --resume-path")
    flags.add_argument("--resume-path", help="a checkpoint, or the --output-dir of a training")
    flags.add_argument(
        "--eval-attack", action="append", choices=["fgsm", "pgd", "cw", "mma"], help="repeatable"
    )
    flags.add_argument("--attack-iters-eval", type=int, default=20)
    flags.add_argument("--epsilon-eval", help="radius of the evaluation (default: --epsilon)")


def training(options: argparse.Namespace) -> dict[str, Any]:
    """Return the submission that the flags describe."""
    ensemble = options.use_ensemble_cam
    return {
        "preset": "part++" if ensemble else "part",
        "seed": options.seed,
        "data": {
            "dataset": DATASETS[options.data.upper()],
            "train_limit": options.train_limit,
            "test_limit": options.test_limit,
        },
        "model": {"name": MODELS.get(options.model, options.model)},
        "method": {
            "epsilon_high": options.epsilon,
            "epsilon_low": options.low_epsilon,
            "warmup_epochs": options.warm_up,
            "attack": {
                "steps": options.attack_iters_train,
                "step_size": options.attack_step_size_train,
            },
            "mask": {"kind": "sigmoid-min-max", "tau": options.tau},
        },
        "training": {
            "epochs": options.epochs,
            "batch_size": options.batch_size,
            "learning_rate": options.lr,
            "schedule": options.lr_scheduler,
            "momentum": options.momentum,
            "weight_decay": options.weight_decay,
            "checkpoint_every": options.save_freq,
            "ema_decay": None,
        },
        "evaluation": evaluation(options),
    }


def evaluation(options: argparse.Namespace) -> dict[str, Any]:
    """Return the attacks the flags name: FGSM, PGD and CW where they name none."""
    steps = options.attack_iters_eval
    named = options.eval_attack or ["fgsm", "pgd", "cw"]
    attacks = [{"kind": kind} | ({} if kind == "fgsm" else {"steps": steps}) for kind in named]
    return {"epsilon": options.epsilon_eval or options.epsilon, "attacks": attacks}
