"""A picture shows what the method did: its panels and headings, from the spec alone."""

from typing import Any, get_args

import pytest

from domain import spec as s
from domain.errors import SpecInvalid
from domain.pictures import (
    FigureSpec,
    alt_text,
    caption,
    figure_of,
    headings,
    map_title,
    mask_formula,
    panels,
)
from domain.presets import Uploaded, expand
from domain.recipes import PRESETS

RUN = "0" * 18
CIFAR = {"data": {"dataset": "cifar10"}}
ENDS = (["image"], ["perturbation", "adversarial"])
GRAD = [("Grad-CAM", "Eq. 4")]
THREE = [*GRAD, ("Grad-CAM++", "Eq. 5"), ("Score-CAM", "softmax, feature-space")]
ENSEMBLE = [*THREE, ("ensemble M", "Eq. 9")]
CENTRED, RADIUS = ("mask S", "σ(10 (M̂ − ½))"), ("radius ε$_w$", "Eq. 8: 7 to 8 levels")  # noqa: RUF001
FIRST = [*THREE[:2], ("Score-CAM", "softmax, first-channels"), ("ensemble M", "Eq. 9")]
EXPECTED: dict[str, list[tuple[str, str]]] = {
    **{name: [] for name in ("standard", "fgsm-rs", "pgd-at", "trades", "mart", "fat", "alp")},
    **{name: [*GRAD, CENTRED, RADIUS] for name in ("part", "part-trades", "part-mart")},
    "part++": [*ENSEMBLE, CENTRED, RADIUS],
    "part-mask": [*ENSEMBLE, ("mask S", "1 where M̂ ≥ 0.5"), RADIUS],
    "part-schedule": [*ENSEMBLE, CENTRED, ("radius ε$_w$", "Eq. 8: 6 to 8 levels")],
    "reproduce-official": [*GRAD, ("mask S", "z(jet(M²)) > 1, RGB mean"), RADIUS],
    "reproduce-report-code": [
        *FIRST,
        ("mask S", "Eq. 7: σ(10 M/mean)"),  # noqa: RUF001
        RADIUS,
    ],
}


def trained(preset: str, **over: Any) -> s.TrainSpec:
    spec = expand({**CIFAR, "preset": preset, **over})
    assert isinstance(spec, s.TrainSpec)
    return spec


def asked(source: s.TrainSpec | Uploaded, **over: Any) -> s.VisualiseSpec:
    """What `part visualise` submits of a run or of uploaded weights."""
    data = CIFAR if isinstance(source, Uploaded) else {}
    spec = expand({"kind": "visualise", "source": {"run": RUN}, **data, **over}, source=source)
    assert isinstance(spec, s.VisualiseSpec)
    return spec


def columns(figure: FigureSpec) -> list[tuple[str, str]]:
    """Between the image and the perturbation."""
    first, *between, delta, adversarial = panels(figure)
    assert ([first.shows], [delta.shows, adversarial.shows]) == ENDS
    return [(panel.title, panel.note) for panel in between]


def texts(figure: FigureSpec) -> list[str]:
    return [heading.text for heading in headings(figure)]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_shows_what_it_did(preset):
    source = trained(preset)
    figure = figure_of(source)
    assert columns(figure) == EXPECTED[preset]
    assert figure_of(asked(source)) == figure, "drawn again it is the same"
    attack = "PGD-20 inside these radii" if EXPECTED[preset] else "PGD-20, ε = 8/255 everywhere"
    assert texts(figure)[-1] == attack
    assert not figure.asked


@pytest.mark.parametrize("preset", PRESETS)
def test_headings_lie_beside_each_other_over_their_panels(preset):
    figure = figure_of(trained(preset))
    shown, at = [panel.shows for panel in panels(figure)], 1
    for heading in headings(figure):
        assert (heading.first, heading.last >= heading.first) == (at, True)
        at = heading.last + 1
    assert at == len(shown)
    assert shown[headings(figure)[-1].first] == "perturbation"


def test_a_fixed_region_is_neither_eq_7_nor_of_any_map():
    figure = figure_of(trained("part-mask", method={"mask": {"kind": "geometric"}}))
    assert columns(figure) == [("mask S", "fixed region: centre"), RADIUS]
    assert texts(figure) == ["the radii", "PGD-20 inside these radii"]
    assert "Eq. 7" not in alt_text(figure)


def test_each_mask_has_its_own_formula_and_eq_7_is_said_of_its_two_forms():
    union, _ = get_args(s.MaskSpec)
    formulas = {kind.model_fields["kind"].default: mask_formula(kind()) for kind in get_args(union)}
    assert len(set(formulas.values())) == len(formulas)
    eq_7 = {kind for kind, formula in formulas.items() if "Eq. 7" in formula}
    assert eq_7 == {"sigmoid-min-max", "sigmoid-mean"}


def test_each_map_has_a_title():
    titles = {map_title(name, s.FeatureSpaceScoring()) for name in get_args(s.CamName)}
    assert len(titles) == len(get_args(s.CamName))


@pytest.mark.parametrize("control", [c for c in get_args(s.ControlName) if c != "none"])
def test_a_control_is_shown_after_the_mask_it_replaces(control):
    figure = figure_of(trained("part", method={"control": control, "mean_mask": 0.5}))
    shown = [panel.shows for panel in panels(figure)[1:-2]]
    assert shown == ["map", "mask", "control", "matched", "radius"]
    assert columns(figure)[2][0] == "control mask"
    assert "A control" in caption(figure)


def test_schedules_are_shown_at_their_end_and_it_is_said():
    assert texts(figure_of(trained("part-schedule")))[1] == "the radii at the end of training"
    figure = figure_of(
        trained("part++", method={"cam": {"weights": [2, {"points": [[0, 0], [1, 3]]}, 1]}})
    )
    assert columns(figure)[3] == ("ensemble M", "mean, 2 : 3 : 1")


@pytest.mark.parametrize(("warmup", "preset"), [("adversarial", "pgd-at"), ("clean", "standard")])
def test_a_warm_up_without_end_never_came_to_a_mask(warmup, preset):
    source = trained("part", method={"warmup": warmup, "warmup_epochs": 30})
    other = trained(preset)
    assert figure_of(source) == figure_of(other)
    assert figure_of(asked(source)) == figure_of(other)


def test_maps_read_elsewhere_or_kept_say_so():
    method = {"cam": {"read_at": "start"}}
    figure = figure_of(trained("part++", method=method))
    assert texts(figure)[0] == "class activation maps of the true label, read at the attack's start"
    assert "of the prediction" in texts(figure_of(trained("reproduce-official")))[0]
    kept = figure_of(trained("part", method={"cam": {"refresh": {"kind": "epochs"}}}))
    assert "these are new" in caption(kept)


ASKED = [
    {"cam": {"members": ["grad-cam"]}},
    {"mask": {"kind": "quantile"}},
    {"epsilon_low": "0/255"},
]


@pytest.mark.parametrize("over", ASKED)
@pytest.mark.parametrize("preset", ["standard", "mart", "part++"])
def test_what_was_asked_for_is_headed_as_such(preset, over):
    figure = figure_of(asked(trained(preset), **over))
    assert figure.asked
    first = headings(figure)[0]
    assert (first.first, first.last) == (1, len(panels(figure)) - 3)
    assert "would budget it, unlike training" in first.text
    assert "asked for; they are not training's" in caption(figure)


def test_asking_for_what_the_method_did_is_no_other_picture():
    source = trained("part++")
    assert not figure_of(asked(source, mask={"kind": "centred-sigmoid"})).asked


def test_another_radius_is_asked_for_of_pixels_and_said_of_the_attack():
    figure = figure_of(asked(trained("part"), epsilon_high="10/255"))
    assert figure.asked
    assert columns(figure)[-1][1] == "Eq. 8: 7 to 10 levels"
    figure = figure_of(asked(trained("pgd-at"), epsilon_high="4/255"))
    assert texts(figure) == ["PGD-20, ε = 4/255 everywhere"]
    assert "Adversarial training at 8/255" in caption(figure)


def test_a_stored_picture_is_submitted_again_as_it_is():
    for over in ({}, *ASKED):
        once = asked(trained("part++"), **over)
        again = expand(once.model_dump(mode="json"), source=trained("part++"))
        assert again == once


def test_of_uploaded_weights_nothing_of_training_is_claimed():
    upload = Uploaded("small-cnn", 3, 10)
    figure = figure_of(asked(upload))
    assert columns(figure) == []
    assert "is not known" in caption(figure)
    assert figure_of(asked(upload, cam={"members": ["cam"]})).asked


@pytest.mark.parametrize(
    ("over", "pointer"),
    [
        ({"method": {"kind": "standard"}}, "/method"),
        ({"mask": {"kind": "quantile"}, "epsilon_low": "9/255"}, "/epsilon_low"),
        ({"data": {"dataset": "digits"}, "mask": {"kind": "official-jet"}}, "/mask/kind"),
    ],
)
def test_a_picture_that_cannot_be_is_refused(over, pointer):
    source = trained("pgd-at", data=over.get("data", CIFAR["data"]))
    with pytest.raises(SpecInvalid) as caught:
        asked(source, **over)
    assert [error.pointer for error in caught.value.errors] == [pointer]
