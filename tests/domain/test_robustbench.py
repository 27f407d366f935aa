"""An entry claims nothing that was not measured, and says why."""

from fractions import Fraction
from typing import Any

import pytest

from domain.described import Described, size_of_test_set
from domain.presets import expand
from domain.results import AuditCheck, AuditReport, Evaluation, ThreatModel
from domain.robustbench import Credits, entry
from domain.spec import TrainSpec
from tests.api.lab import attack, evaluation

KEYS = [
    *("link", "name", "authors", "additional_data", "number_forward_passes", "dataset", "venue"),
    *("architecture", "eps", "clean_acc", "reported", "autoattack_acc", "unreliable", "footnote"),
]
FOLDER = {"dataset": "image-folder", "folder": "birds", "classes": 10}


def described(**over: Any) -> Described:
    spec = expand({"preset": "pgd-at", "data": {"dataset": "digits"}, **over})
    assert isinstance(spec, TrainSpec)
    return Described("r" * 18, "the run", spec, "f" * 64, {})


def judged(label: str = "autoattack", **over: Any) -> Evaluation:
    found = evaluation()
    strong = attack(label, 216).model_copy(update=over)
    return found.model_copy(update={"results": (*found.results, strong)})


def autoattack_of(found: Evaluation) -> tuple[str | None, str]:
    made = entry(described(), found, Credits())
    return made.autoattack_acc, made.footnote


def test_a_whole_autoattack_on_the_whole_test_set_is_an_entry():
    credit = Credits(name="A Title", authors="A. Author", venue="none", link="l")
    made = entry(described(model={"name": "small-cnn"}), judged(), credit).model_dump(mode="json")
    assert list(made) == KEYS
    assert made == {
        "link": "l",
        "name": "A Title",
        "authors": "A. Author",
        "additional_data": False,
        "number_forward_passes": 1,
        "dataset": "digits",
        "venue": "none",
        "architecture": "small-cnn",
        "eps": "51/255",
        "clean_acc": "96.39",
        "reported": "59.44",
        "autoattack_acc": "60.00",
        "unreliable": False,
        "footnote": "",
    }


def test_what_nobody_can_know_is_empty_and_the_name_is_the_runs():
    made = entry(described(), judged(), Credits())
    assert (made.name, made.authors, made.venue, made.link) == ("the run", "", "", "")


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (evaluation(), "no AutoAttack was run"),
        (judged("autoattack-20-1000", kind="autoattack"), "only autoattack-20-1000 was run"),
        (judged("autoattack-rand", kind="autoattack"), "only autoattack-rand was run"),
        (judged("autoattack@8/255", kind="autoattack"), "only autoattack@8/255 was run"),
        (judged(complete=False), "did not run to its end"),
        (judged(cascaded=True), "(cascade)"),
        (judged(threat=ThreatModel(epsilon=Fraction(8, 255))), "another threat model"),
    ],
)
def test_any_lesser_autoattack_is_none(found, why):
    accuracy, footnote = autoattack_of(found)
    assert accuracy is None
    assert footnote.startswith("No autoattack_acc: ")
    assert why in footnote
    assert entry(described(), found, Credits()).clean_acc == "96.39"


def test_a_subset_gives_no_accuracy():
    made = entry(described(), judged().model_copy(update={"n": 100}), Credits())
    assert (made.clean_acc, made.reported, made.autoattack_acc) == (None, None, None)
    assert made.footnote == "No accuracy is given: 100 of the 360 test images were judged."


@pytest.mark.parametrize(
    ("limits", "size"),
    [({}, 360), ({"test_limit": 360}, None), ({"test_limit": 500}, 360)],
)
def test_a_folder_is_whole_where_nothing_limited_it(limits, size):
    spec = described(data={**FOLDER, **limits}).spec
    assert size_of_test_set(spec, 360) == size
    assert size_of_test_set(described().spec, 10) == 360


def test_a_folder_is_named_and_a_limited_one_is_no_whole_test_set():
    made = entry(described(data={**FOLDER, "test_limit": 360}), judged(), Credits())
    assert made.dataset == "birds"
    assert "of a test set of unknown size" in made.footnote


def test_clean_accuracy_is_never_reported_as_robust():
    found = judged()
    clean = tuple(result for result in found.results if result.kind == "clean")
    made = entry(described(), found.model_copy(update={"results": clean}), Credits())
    assert (made.clean_acc, made.reported) == ("96.39", None)
    assert "no attack of the threat model was run" in made.footnote


def test_an_upper_bound_is_not_reported():
    found = judged()
    half = found.worst_case.model_copy(update={"complete": False})
    made = entry(described(), found.model_copy(update={"worst_case": half}), Credits())
    assert made.reported is None
    assert "upper bound" in made.footnote


@pytest.mark.parametrize("verdict", ["suspicious", "broken", "incomplete"])
def test_what_is_not_sound_is_unreliable_and_says_why(verdict):
    check = AuditCheck(
        name="reach", severity="suspicious", outcome="fails", detail="too short", advice="more"
    )
    report = AuditReport(verdict=verdict, checks=(check,))
    made = entry(described(), judged().model_copy(update={"audit": report}), Credits())
    assert made.unreliable
    assert f"calls the evaluation {verdict}, failing reach (too short)." in made.footnote
    assert (made.autoattack_acc is None) == (verdict == "broken")
    assert (made.clean_acc is None) == (verdict == "broken")


def test_architectures_are_written_as_the_leaderboard_does():
    names = {"resnet18": "ResNet-18", "wrn-34-10": "WideResNet-34-10"}
    for ours, theirs in names.items():
        made = entry(
            described(data={"dataset": "cifar10"}, model={"name": ours}), judged(), Credits()
        )
        assert made.architecture == theirs
