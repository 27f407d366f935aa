"""Every series that training emits has its place in the table of charts, and none is there in vain.

The names follow from options, not from sizes: each run takes a few steps.
"""

import ast
from pathlib import Path
from typing import Any

import pytest
import torch

import partcore
from domain.events import Metrics
from domain.presets import expand
from domain.recipes import PRESETS
from domain.series import MEMBERS, OTHER, SERIES, measure
from domain.spec import TrainSpec
from partcore.data import load
from partcore.environment import Environment, configure
from partcore.training import Trainer
from partcore.validation import STEPS

pytestmark = pytest.mark.xdist_group("series")
CAM: dict[str, dict[str, Any]] = {
    "learned": {"combine": "learned"},
    "stacked": {"combine": "stacked"},
    "kept maps": {"refresh": {"kind": "adaptive", "overlap": 0.3}},
    "floor": {"fidelity_floor": 1.0},
    "at start": {"read_at": "start"},
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    configure(Environment(work=Path(), data_root=Path(), threads=1))
    yield
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(False)  # noqa: FBT003


def names(preset: str, work: Path, **method: Any) -> set[str]:
    """Train for two short epochs; return the names of the series."""
    if preset != "standard":
        method |= {"attack": {"steps": 2}}
    if preset == "reproduce-official":
        method |= {"mask": {"kind": "z-score"}}  # digits are grey: the jet mask needs colours
    if preset.startswith(("part", "reproduce")):
        method |= {"warmup_epochs": 0}
    spec = expand(
        {
            "preset": preset,
            "data": {"dataset": "digits", "train_limit": 100, "test_limit": 4},
            "training": {"epochs": 2, "batch_size": 45},
            "method": method,
        }
    )
    assert isinstance(spec, TrainSpec)
    environment = Environment(work=work, data_root=work)
    split = load(spec.data, work, seed=spec.seed)
    events = Trainer(spec, split, environment).run()
    return {name for event in events if isinstance(event, Metrics) for name in event.values}


@pytest.fixture(scope="module")
def emitted(tmp_path_factory) -> dict[str, set[str]]:
    """Names of the series of each preset, and of each option that brings more."""
    folder = tmp_path_factory.mktemp("series")
    found = {preset: names(preset, folder) for preset in sorted(PRESETS)}
    return found | {option: names("part++", folder, cam=cam) for option, cam in CAM.items()}


def test_no_series_lands_in_the_chart_of_others(emitted):
    for option, found in emitted.items():
        assert len(found) > 5, option
        assert not [name for name in found if measure(name).chart is OTHER], option


def test_the_table_holds_what_is_emitted_and_nothing_else(emitted):
    together = set().union(*emitted.values())
    assert {name for name in together if not name.startswith(MEMBERS)} == set(SERIES)
    assert any(name.startswith(MEMBERS) for name in together)


def test_no_name_in_the_source_is_missing_from_the_table():
    """A guard for options that no run above turns on."""
    families = tuple({name.partition("/")[0] + "/" for name in (*SERIES, MEMBERS)})
    written = {
        node.value
        for file in Path(partcore.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if node.value.startswith(families) and " " not in node.value
    }
    beginnings = (*families, "val/ema/", MEMBERS)
    unknown = {n for n in written if n not in SERIES and n not in beginnings}
    assert unknown == set()


def test_the_label_names_the_attack_that_validates():
    assert measure("val/robust_accuracy").label.endswith(f"PGD-{STEPS}")
