"""What people write in files, and what it means."""

import subprocess
import sys

import pytest

from domain import json_text
from domain.json_text import Malformed
from domain.spec_file import read_file, read_text, read_toml, read_yaml

MEANT = [
    ("off", "off"),
    ("yes", "yes"),
    ("n", "n"),
    ("true", True),
    ("False", False),
    ("010", 10),
    ("+7", 7),
    ("0o17", 15),
    ("0x1F", 31),
    ("1:30", "1:30"),
    ("190:20:30", "190:20:30"),
    ("1_000", "1_000"),
    ("1e-2", 0.01),
    ("1E3", 1000.0),
    (".5", 0.5),
    ("1.", 1.0),
    ("8/255", "8/255"),
    ("2026-01-02", "2026-01-02"),
    ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
    ("=", "="),
    ("~", None),
    ("", None),
    ("NULL", None),
    ("nullable", "nullable"),
    ("'3'", "3"),
    ('"true"', "true"),
    ("[1, 'a', {b: c}]", [1, "a", {"b": "c"}]),
    ("part++", "part++"),
]


@pytest.mark.parametrize(("text", "value"), MEANT)
def test_yaml_means_what_people_think(text, value):
    body = read_yaml(f"%YAML 1.1\n---\na: {text}\n")
    assert read_yaml(f"a: {text}\n") == body == {"a": value}
    assert type(body["a"]) is type(value)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
REFUSED = [
    ("a: 1\na: 2", "'a' is given twice in one object .line 2"),
    ("x: {a: 1, 'a': 2}", "'a' is given twice"),
    ("a: &x [*x]", r"the alias \*x names nothing that ends before it"),
    ("a: &x {b: *x}", r"the alias \*x"),
    ("a: *x", r"the alias \*x"),
    (BOMB, "more than 100,000 values"),
    ("a: !!python/object/apply:os.system [ls]", "the tag .* is not read"),
    ("a: !!binary aGk=", "the tag"),
    ("a: !x 1", "the tag"),
    ("<<: {a: 1}", "merge keys"),
    ("a: 1\n---\nb: 2", "more than one document"),
    ("a: .nan", "no finite number"),
    ("a: -.INF", "no finite number"),
    ("a: 1e999", "no finite number"),
    ("a: " + "9" * 5000, "too many digits"),
    ("1: a", "a name must be text, not 1"),
    ("? [a]\n: 1", "a name must be text"),
    ("true: 1", "a name must be text, not true"),
    ("a: " + "[" * 50, "nested more than 32"),
    ("a: [", "line 1"),
    ("a:\n\t- b", "line 2"),
    ("a: \x00", "unreadable"),
]


@pytest.mark.parametrize(("text", "says"), REFUSED, ids=range(len(REFUSED)))
def test_yaml_that_is_unclear_is_refused_with_the_place(text, says):
    with pytest.raises(Malformed, match=says):
        read_yaml(text)


def test_an_alias_repeats_its_anchor():
    assert read_yaml("a: &x {b: [1]}\nc: *x\nd: [*x]") == {
        "a": {"b": [1]}, "c": {"b": [1]}, "d": [{"b": [1]}]
    }  # fmt: skip


TWICE = {
    "spec.json": '{"data": {"dataset": "digits", "dataset": "svhn"}}',
    "spec.yaml": "data:\n  dataset: digits\n  dataset: svhn\n",
    "spec.toml": '[data]\ndataset = "digits"\ndataset = "svhn"\n',
}
ONCE = {
    "spec.json": '{"data": {"dataset": "digits"}}',
    "spec.yaml": "data:\n  dataset: digits\n",
    "spec.toml": '[data]\ndataset = "digits"\n',
}


@pytest.mark.parametrize("name", TWICE)
def test_one_name_twice_is_refused_in_every_format(name, tmp_path):
    (tmp_path / name).write_text(TWICE[name])
    with pytest.raises(Malformed, match=f"{name} is not well formed: .*"):
        read_file(tmp_path / name)
    with pytest.raises(Malformed):
        read_text(TWICE[name])


@pytest.mark.parametrize("name", ONCE)
def test_a_byte_order_mark_is_no_fault(name, tmp_path):
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + ONCE[name].encode())
    assert read_file(tmp_path / name) == {"data": {"dataset": "digits"}}
    assert read_text("\ufeff" + ONCE[name]) == {"data": {"dataset": "digits"}}


@pytest.mark.parametrize("name", ONCE)
def test_a_file_that_is_no_utf8_is_named(name, tmp_path):
    (tmp_path / name).write_bytes(ONCE[name].encode("utf-16"))
    with pytest.raises(Malformed, match=f"{name} .* not UTF-8"):
        read_file(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "-Infinity is no number"),
        ('{"a": 1e999}', "no finite number"),
        ('{"a": ' + "9" * 5000 + "}", "too many digits"),
        ("[" * 100_000, "nested too deep"),
        ('{"a" 1}', "line 1, column 6"),
        ("{} {}", "line 1"),
    ],
    ids=range(7),
)
def test_json_that_is_none_is_refused(text, says):
    with pytest.raises(Malformed, match=says):
        json_text.parse(text)


def test_toml_has_no_numbers_that_are_none_and_its_dates_are_texts():
    assert read_toml("a = 2026-01-02\nb = 03:04:05\nc = [1979-05-27T07:32:00Z]") == {
        "a": "2026-01-02",
        "b": "03:04:05",
        "c": ["1979-05-27T07:32:00+00:00"],
    }
    for text in ("a = nan", "a = inf", "a = 1e999", "a = " + "9" * 5000):
        with pytest.raises(Malformed):
            read_toml(text)


def test_what_is_unclear_in_one_format_is_not_tried_in_the_next():
    with pytest.raises(Malformed, match="'a' is given twice"):
        read_text('{"a": 1, "a": 2}')


def test_the_api_does_not_load_the_reader_of_files():
    script = "import sys, api.main; print('ruamel.yaml' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "False"
