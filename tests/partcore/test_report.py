"""The command of the report's reproduction instructions: every flag moves what it names."""

import argparse
import json
import re
import subprocess
import sys
from fractions import Fraction

import pytest

from domain.spec import EvaluateSpec, TrainSpec
from partcore import train
from partcore.report import DATASETS

CIFAR = (
    "--data CIFAR10 --model resnet18 --epochs 30 --warm-up 5 --batch-size 256 --lr 0.1 "
    "--optimizer sgd --momentum 0.9 --weight-decay 5e-4 --lr-scheduler cosine --tau 10.0 "
    "--epsilon 8/255 --low-epsilon 7/255 --attack-iters-train 10 --attack-step-size-train 2/255 "
    "--use-ensemble-cam --save-freq 2 --seed 42"
)
SVHN = CIFAR.replace("CIFAR10", "SVHN").replace("resnet18", "wideresnet34-10")
TINY = (
    "--data digits --model small-cnn --epochs 2 --warm-up 1 --batch-size 100 --train-limit 400 "
    "--test-limit 80 --use-ensemble-cam --attack-iters-train 2 --attack-iters-eval 4 --threads 1"
)


def meant(flags: str) -> TrainSpec:
    """Return the training that a command line describes."""
    spec = train.wanted(parsed(flags))
    assert isinstance(spec, TrainSpec)
    return spec


def parsed(flags: str) -> argparse.Namespace:
    return train.parse(["--output-dir", "out", *flags.split()])


def values(spec: TrainSpec) -> dict[str, object]:
    """Return every value of a spec by its path."""
    found: dict[str, object] = {}

    def walk(node: object, path: str) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                walk(value, f"{path}/{key}")
        else:
            found[path] = node

    walk(spec.model_dump(mode="json"), "")
    return found


class TestTheReportsOwnCommands:
    def test_cifar10(self):
        spec = meant(CIFAR)
        assert (spec.data.dataset, spec.model.name, spec.preset) == (
            "cifar10",
            "resnet18",
            "part++",
        )
        method = spec.method
        assert (method.epsilon_low, method.epsilon_high) == (Fraction(7, 255), Fraction(8, 255))
        assert (method.attack.steps, method.attack.step_size) == (10, Fraction(2, 255))
        assert (method.mask.kind, method.mask.tau) == ("sigmoid-min-max", 10)
        assert set(method.cam.members) == {"grad-cam", "grad-cam++", "score-cam"}
        assert method.warmup_epochs == 5
        training = spec.training
        assert (training.epochs, training.batch_size, training.learning_rate) == (30, 256, 0.1)
        assert (training.momentum, training.weight_decay) == (0.9, 5e-4)
        assert (training.schedule, training.checkpoint_every, spec.seed) == ("cosine", 2, 42)

    def test_its_svhn_twin_differs_in_data_and_network_alone(self):
        one, other = values(meant(CIFAR)), values(meant(SVHN))
        moved = {path for path in one | other if one.get(path) != other.get(path)}
        assert moved == {"/data/dataset", "/data/flip", "/model/name"}  # digits are not mirrored
        assert other["/model/name"] == "wrn-34-10"

    def test_its_evaluation(self):
        flags = "--resume-path out --evaluate-only --eval-attack pgd --attack-iters-eval 20"
        options = parsed(f"{CIFAR} {flags} --epsilon-eval 8/255 --eval-attack mma")
        spec = train.wanted(options)
        assert isinstance(spec, EvaluateSpec)
        assert [attack.kind for attack in spec.evaluation.attacks] == ["pgd", "mma"]
        assert [attack.steps for attack in spec.evaluation.attacks] == [20, 20]
        assert spec.evaluation.epsilon == Fraction(8, 255)
        assert spec.data == meant(CIFAR).data

    def test_without_the_ensemble_it_is_part(self):
        spec = meant(CIFAR.replace("--use-ensemble-cam ", ""))
        assert spec.preset == "part"
        assert list(spec.method.cam.members) == ["grad-cam"]


@pytest.mark.parametrize(
    ("flag", "value", "path", "is_now"),
    [
        ("--epochs", "31", "/training/epochs", 31),
        ("--warm-up", "6", "/method/warmup_epochs", 6),
        ("--batch-size", "64", "/training/batch_size", 64),
        ("--lr", "0.2", "/training/learning_rate", 0.2),
        ("--momentum", "0.8", "/training/momentum", 0.8),
        ("--weight-decay", "2e-4", "/training/weight_decay", 2e-4),
        ("--lr-scheduler", "constant", "/training/schedule", "constant"),
        ("--tau", "5", "/method/mask/tau", 5.0),
        ("--low-epsilon", "6/255", "/method/epsilon_low", "6/255"),
        ("--attack-iters-train", "7", "/method/attack/steps", 7),
        ("--attack-step-size-train", "1/255", "/method/attack/step_size", "1/255"),
        ("--save-freq", "3", "/training/checkpoint_every", 3),
        ("--seed", "1", "/seed", 1),
        ("--train-limit", "500", "/data/train_limit", 500),
        ("--test-limit", "500", "/data/test_limit", 500),
    ],
)
def test_a_flag_moves_its_own_setting_and_no_other(flag, value, path, is_now):
    before, after = values(meant(CIFAR)), values(meant(f"{CIFAR} {flag} {value}"))
    moved = {p for p in before | after if before.get(p) != after.get(p)}
    assert moved == {path}
    assert after[path] == is_now


def test_the_radius_is_that_of_training_and_of_evaluation():
    before, after = values(meant(CIFAR)), values(meant(f"{CIFAR} --epsilon 9/255"))
    moved = {p for p in before | after if before.get(p) != after.get(p)}
    assert moved == {"/method/epsilon_high", "/evaluation/epsilon"}
    apart = values(meant(f"{CIFAR} --epsilon 9/255 --epsilon-eval 8/255"))
    assert (apart["/method/epsilon_high"], apart["/evaluation/epsilon"]) == ("9/255", "8/255")


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_may_be_written_large_or_small(name):
    for written in (name, name.lower()):
        assert meant(f"--data {written} --model small-cnn").data.dataset == DATASETS[name]


class TestWrongCommandLines:
    @pytest.mark.parametrize(
        ("flags", "told"),
        [
            ("", "give --spec FILE, or the report's flags"),
            ("--data mnist", "invalid choice: 'mnist'"),
            ("--data cifar10 --optimizer adam", "invalid choice: 'adam'"),
            ("--data cifar10 --epochs ten", "invalid int value: 'ten'"),
            ("--data cifar10 --evaluate-only", "--evaluate-only needs --resume-path"),
            ("--data cifar10 --eval-attack deepfool", "invalid choice: 'deepfool'"),
        ],
    )
    def test_what_cannot_be_read_is_a_usage_error(self, flags, told, capsys):
        with pytest.raises(SystemExit) as stopped:
            parsed(flags)
        assert stopped.value.code == 2
        assert told in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("flags", "pointer"),
        [
            ("--epsilon 8", "/method/epsilon_high"),
            ("--epsilon 1/0", "/method/epsilon_high"),
            ("--low-epsilon 9/255", "/method"),
            ("--warm-up 31", ""),
            ("--model resnet19", "/model/name"),
            ("--tau -1", "/method/mask"),
            ("--attack-iters-train 0", "/method/attack/steps"),
            ("--lr 0", "/training/learning_rate"),
        ],
    )
    def test_what_cannot_be_meant_names_its_field(self, flags, pointer, capsys, tmp_path):
        command = ["--output-dir", str(tmp_path), *f"{CIFAR} {flags}".split()]
        assert train.main(command) == 2
        lines = capsys.readouterr().out.splitlines()
        assert any(re.match(rf"{pointer}.*: .+", line) for line in lines), lines
        assert not list(tmp_path.iterdir())


def test_a_training_and_then_its_evaluation_alone(tmp_path, capsys):
    out, later = tmp_path / "out", tmp_path / "later"
    assert train.main([*TINY.split(), "--output-dir", str(out)]) == 0
    trained = capsys.readouterr().out
    assert {"fgsm", "pgd-4", "cw-4", "worst-case"} <= set(trained.split())
    only = f"--evaluate-only --resume-path {out} --eval-attack pgd --eval-attack mma"
    assert train.main([*f"{TINY} {only}".split(), "--output-dir", str(later)]) == 0
    judged = capsys.readouterr().out
    assert {"pgd-4", "mma"} <= set(judged.split())
    assert row("pgd-4", judged) == row("pgd-4", trained)
    assert row("clean", judged) == row("clean", trained)
    assert not (later / "checkpoints").exists()


def row(label: str, printed: str) -> str:
    """The line of the table; the log's, which tells the seconds, has a colon after the label."""
    return next(line for line in printed.splitlines() if line.startswith(f"{label} "))


def test_two_ranks_of_torchrun_train_and_one_speaks(tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *torchrun, "-m", "partcore.train", "--output-dir", str(tmp_path)]
    command += TINY.split()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("verdict: ") == 1
    assert done.stdout.count("saved weights/final.safetensors") == 1
    assert json.loads((tmp_path / "summary.json").read_text())["epochs"] == 2


def test_a_rank_that_fails_ends_them_all(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    missing = ["--data", "cifar10", "--data-root", str(tmp_path)]
    assert train.main([*missing, "--output-dir", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "rank 1 failed" in printed.err
