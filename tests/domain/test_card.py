"""A card says what was measured, with its intervals, and the verdict first."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.audit import audit_again
from domain.card import WIDTH, card
from domain.described import Described
from domain.method_words import in_words
from domain.presets import Uploaded, expand
from domain.recipes import PRESETS
from domain.results import AuditReport, Evaluation, Interval
from domain.spec import EvaluateSpec, TrainSpec
from tests.api.lab import attack, evaluation
from tests.api.lab import judged as an_evaluation

EXPECTED = Path(__file__).with_name("card.md")
RUN, OTHER = "0" * 18, "1" * 18
FACTS = {
    "device": "cuda:0",
    "device_name": "A GPU | of two",
    "threads": 2,
    "deterministic": True,
    "torch": "2.9.0",
    "train_images": 1294,
    "train_sha256": "e" * 64,
}
FIGURE = re.compile(r"\d+\.\d\d %")


def trained(**over: Any) -> Described[TrainSpec]:
    spec = expand({"preset": "pgd-at", "data": {"dataset": "digits"}, **over})
    assert isinstance(spec, TrainSpec)
    return Described(OTHER, "pgd-at", spec, "f" * 64, FACTS)


def judging(source: Described[TrainSpec], **over: Any) -> Described[EvaluateSpec]:
    body = {"kind": "evaluate", "source": {"run": OTHER}, **over}
    spec = expand(body, source=source.spec)
    assert isinstance(spec, EvaluateSpec)
    return Described(RUN, "again", spec, "9" * 64, {"device": "cpu", "torch": "2.9.0"})


def whole(found: Evaluation, **over: Any) -> str:
    run = trained(**over)
    return card(run, run, found)


def said(text: str) -> str:
    """A card's prose without its folds."""
    return " ".join(text.split())


def test_the_whole_text():
    source = trained()
    told = card(judging(source, seed=1), source, evaluation("suspicious", fails=True))
    assert told == EXPECTED.read_text(encoding="utf-8")


@pytest.mark.parametrize("verdict", ["sound", "suspicious", "broken", "incomplete"])
def test_the_verdict_is_in_the_first_lines(verdict):
    lines = whole(evaluation(verdict)).splitlines()
    assert lines[2].startswith(f"**Verdict: {verdict}**")
    assert ("Do not quote" in " ".join(lines[2:5])) == (verdict != "sound")


@given(
    st.lists(st.tuples(st.integers(0, 360), st.booleans(), st.booleans()), min_size=1, max_size=5)
)
def test_every_accuracy_has_its_interval_and_n_beside_it(attacks):
    results = [
        attack(f"pgd-{i}", correct, complete=complete, cascaded=cascaded)
        for i, (correct, complete, cascaded) in enumerate(attacks)
    ]
    found = evaluation().model_copy(update={"results": (attack("clean", 347), *results)})
    text = whole(found)
    rows = [line for line in text.splitlines() if FIGURE.search(line)]
    assert len(rows) == len(results) + 2
    for row, result in zip(rows, (*found.results, found.worst_case), strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        bound = "" if result.complete and not result.cascaded else "≤ "
        low, high = 100 * result.interval.low, 100 * result.interval.high
        assert cells[2:] == [
            f"{bound}{100 * result.accuracy:.2f} %", f"{low:.2f} to {high:.2f} %", "360"
        ]  # fmt: skip
    assert ("≤ marks" in text) == any("≤" in row for row in rows)


def test_radii_are_exact():
    assert "linf 31/1000" in whole(an_evaluation(epsilon="0.031"))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_card_fits_a_window_and_tells_the_same_twice(preset):
    for found in (evaluation(), evaluation("broken", fails=True), an_evaluation()):
        text = whole(found, preset=preset, data={"dataset": "cifar10"})
        assert text == whole(found, preset=preset, data={"dataset": "cifar10"})
        assert max(map(len, text.splitlines())) <= WIDTH
        assert "`None`" not in text


def test_what_ended_early_or_saw_survivors_is_told():
    half, cascaded = attack("pgd-20", 225, complete=False), attack("cw-20", 219, cascaded=True)
    found = evaluation().model_copy(update={"results": (attack("clean", 347), half, cascaded)})
    text = said(whole(found))
    assert "The budget ended pgd-20: images that were not attacked count as standing" in text
    assert "its attack alone may leave more" in text


def test_what_an_incomplete_evaluation_lacks_is_told_with_what_to_do():
    found = an_evaluation()
    unfinished = found.model_copy(update={"results": found.results[:2]})
    lacking = unfinished.model_copy(update={"audit": audit_again(unfinished)})
    for one in (lacking, lacking.model_copy(update={"facts": None})):
        report = AuditReport(verdict="incomplete", checks=())
        text = said(whole(one.model_copy(update={"audit": report})))
        assert "**Missing:** an attack on the margin (cw, mma or autoattack)." in text
        assert f"`part evaluate {OTHER} --weights best --suite standard`." in text


def test_a_subset_is_told():
    assert "The whole test set was judged: 360 images." in whole(evaluation())
    some = evaluation().model_copy(update={"n": 100})
    assert "A subset was judged: 100 of 360 test images." in whole(some)
    folder = {"dataset": "image-folder", "folder": "birds", "classes": 10, "test_limit": 100}
    assert "100 of a test set of unknown size" in whole(some, data=folder)
    assert "`birds`" in whole(some, data=folder)


def test_autoattack_is_missed_unless_it_ran():
    found = evaluation()
    strong = found.model_copy(update={"results": (*found.results, attack("autoattack", 215))})
    assert "AutoAttack as published did not run" in said(whole(found))
    assert "AutoAttack as published did not run" not in said(whole(strong))


def test_a_run_that_told_no_facts_has_a_card():
    run = trained()
    silent = Described(run.run, run.title, run.spec, run.spec_sha256, {})
    assert "Where it ran was not recorded." in card(silent, silent, evaluation())


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"preset": "standard"}, "Plain training on clean images, without attacks."),
        ({"preset": "fgsm-rs"}, "; PGD makes 1 step of 1/4."),
        ({"preset": "trades"}, "at 51/255 for every pixel: the TRADES loss"),
        ({"preset": "part"}, "(PART): grad-cam decides each pixel's radius, from 7/40 to 51/255"),
        ({"preset": "part++"}, "the mean of grad-cam, grad-cam++ and score-cam decides"),
        ({"preset": "part-schedule"}, "from 3/20 to 51/255 in the end"),
        ({"method": {"control": "random"}}, "instead of the mask, its values at random places."),
        ({"method": {"mask": {"kind": "geometric"}}}, "a fixed region (centre) decides"),
        ({"method": {"awp": {}}}, ", with adversarial weight perturbation; PGD makes"),
        ({"method": {"attack": {"steps": {"points": [[0, 2], [1, 9]]}}}}, "9 steps in the end"),
    ],
)
def test_methods_are_told_in_words(over, words):
    spec = expand({"preset": "part++", "data": {"dataset": "digits"}, **over})
    assert isinstance(spec, TrainSpec)
    assert words in in_words(spec.method)


def test_of_uploaded_weights_it_says_what_is_not_known():
    body = {"kind": "evaluate", "source": {"checkpoint": OTHER}, "data": {"dataset": "digits"}}
    spec = expand(body, source=Uploaded("small-cnn", channels=1, classes=10))
    assert isinstance(spec, EvaluateSpec)
    judged = Described(RUN, "theirs", spec, "9" * 64, FACTS)
    found = an_evaluation().model_copy(update={"weights": "uploaded"})
    unfinished = found.model_copy(update={"results": found.results[:2]})
    report = AuditReport(verdict="incomplete", checks=())
    text = said(card(judged, None, unfinished.model_copy(update={"audit": report})))
    assert f"uploaded as checkpoint `{OTHER}`" in text
    assert "whether they were trained on judged images is not known" in text
    assert f"`part evaluate --checkpoint {OTHER} --suite standard`" in text
    assert "preset" not in text
    assert "A GPU" in text


def test_clean_accuracy_is_no_worst_case():
    found = evaluation()
    clean = tuple(result for result in found.results if result.kind == "clean")
    text = whole(found.model_copy(update={"results": clean}))
    assert "worst case**" not in text


def test_all_but_one_of_many_images_is_not_a_hundred_percent():
    found = evaluation()
    nearly = found.worst_case.model_copy(
        update={"accuracy": 0.99996, "interval": Interval(low=0.9998, high=0.999999)}
    )
    line = next(
        x
        for x in whole(found.model_copy(update={"worst_case": nearly})).splitlines()
        if "worst case**" in x
    )
    assert "99.996 %" in line
    assert "100.00" not in line
