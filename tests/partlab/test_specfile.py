import io
import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.presets import expand
from partlab.errors import UsageError
from partlab.specfile import apply_settings, read_submission, typed

SPEC = {"preset": "part++", "data": {"dataset": "digits"}, "training": {"epochs": 3}}
WRITTEN = {
    "spec.json": json.dumps(SPEC),
    "spec.yaml": "preset: part++\ndata: {dataset: digits}\ntraining:\n  epochs: 3\n",
    "spec.yml": "preset: 'part++'\ndata:\n  dataset: digits\ntraining: {epochs: 3}\n",
    "spec.toml": 'preset = "part++"\n[data]\ndataset = "digits"\n[training]\nepochs = 3\n',
}


def speak(monkeypatch, raw: bytes) -> None:
    """Let standard input be these bytes."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))


@pytest.mark.parametrize("name", WRITTEN)
def test_every_format_says_the_same(name, tmp_path):
    (tmp_path / name).write_text(WRITTEN[name])
    assert read_submission(str(tmp_path / name)) == SPEC


@pytest.mark.parametrize("name", WRITTEN)
def test_standard_input_may_be_in_any_format(name, monkeypatch):
    speak(monkeypatch, WRITTEN[name].encode())
    assert read_submission("-") == SPEC


def test_a_date_in_yaml_stays_the_text_that_was_written(tmp_path):
    file = tmp_path / "spec.yaml"
    file.write_text("name: 2026-01-02\n")
    assert read_submission(str(file)) == {"name": "2026-01-02"}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("spec.json", "{", "not well formed"),
        ("spec.yaml", "a: [", "not well formed"),
        ("spec.toml", "a = ", "not well formed"),
        ("spec.yaml", "- a\n", "must hold an object"),
        ("spec.yaml", "1: a\n", "a name must be text, not 1"),
        ("spec.txt", "{}", ".json, .yaml or .toml"),
        ("spec.json", b"\xff\xfe{}", "spec.json is not well formed: it is not UTF-8 .byte 1"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(name, content, told, tmp_path):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=told):
        read_submission(str(file))


def test_a_missing_file_and_a_senseless_standard_input_are_told(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="no file"):
        read_submission(str(tmp_path / "absent.json"))
    speak(monkeypatch, b"just words")
    with pytest.raises(UsageError, match="neither"):
        read_submission("-")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-0.5", -0.5),
        ("1e-3", 0.001),
        ("true", True),
        ("null", None),
        ("True", "True"),
        ("8/255", "8/255"),
        ('"3"', "3"),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("", ""),
        ("a b", "a b"),
        ("[1, 2]", [1, 2]),
        ("[grad-cam, score-cam]", ["grad-cam", "score-cam"]),
        ("{kind: pgd, steps: 50}", {"kind": "pgd", "steps": 50}),
        ("2026-01-02", "2026-01-02"),
        ("no", "no"),
    ],
)
def test_values_are_read_as_they_look(text, value):
    found = typed(text)
    assert found == value
    assert type(found) is type(value)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_json_written_as_a_setting_arrives_as_it_was(value):
    assert apply_settings({}, [f"a.b={json.dumps(value)}"]) == {"a": {"b": value}}


def test_settings_go_into_objects_and_lists_and_leave_the_given_alone():
    given = {"data": {"dataset": "digits"}, "evaluation": {"attacks": [{"kind": "pgd"}, 1]}}
    before = json.dumps(given)
    changed = apply_settings(
        given,
        ["data.dataset=svhn", "evaluation.attacks.0.steps=50", "evaluation.attacks.1=x", "seed=7"],
    )
    assert json.dumps(given) == before
    assert changed == {
        "data": {"dataset": "svhn"},
        "evaluation": {"attacks": [{"kind": "pgd", "steps": 50}, "x"]},
        "seed": 7,
    }


def test_the_last_setting_of_a_name_counts():
    assert apply_settings({}, ["seed=1", "seed=2"]) == {"seed": 2}


def test_a_setting_reaches_the_expanded_spec():
    spec = expand(apply_settings(SPEC, ["method.mask.tau=4", "method.epsilon_low=40/255"]))
    assert spec.method.mask.tau == 4


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("seed", "name.below=value"),
        ("=3", "name.below=value"),
        ("a..b=3", "name.below=value"),
        ("seed.x=3", "seed is 1 and has nothing below"),
        ("seed.x.y=3", "seed is 1 and has nothing below"),
        ("list.2=3", "no place in a list of 2"),
        ("list.x=3", "no place in a list of 2"),
        ("list.5.x=3", "no place in a list of 2"),
        ("a=[1", "not well formed"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_told(setting, told):
    with pytest.raises(UsageError, match=told):
        apply_settings({"seed": 1, "list": [0, 1]}, [setting])


def test_a_value_json_does_not_know_is_told():
    with pytest.raises(UsageError, match="JSON does not know"):
        apply_settings(tomllib.loads("when = 2026-01-02"), [])
