"""The core reads a spec in every form that a lab does."""

import json

import pytest

from partcore.train import EXIT_USAGE, main, parse, wanted

WRITTEN = {
    "spec.json": '{"preset": "part++", "data": {"dataset": "digits"}, "training": {"epochs": 3}}',
    "spec.yaml": "preset: part++\ndata: {dataset: digits}\ntraining:\n  epochs: 3\n",
    "spec.toml": 'preset = "part++"\n[data]\ndataset = "digits"\n[training]\nepochs = 3\n',
}


def asked(tmp_path, name: str, raw: bytes) -> list[str]:
    (tmp_path / name).write_bytes(raw)
    return ["--spec", str(tmp_path / name), "--out", str(tmp_path / "out")]


def test_every_form_says_the_same(tmp_path):
    specs = [
        wanted(parse(asked(tmp_path, each, b"\xef\xbb\xbf" + text.encode())))
        for each, text in WRITTEN.items()
    ]
    assert specs[0] == specs[1] == specs[2]
    assert json.loads(specs[0].model_dump_json())["training"]["epochs"] == 3


@pytest.mark.parametrize(
    ("name", "raw", "says"),
    [
        ("spec.yaml", b"preset: part\npreset: part++\n", "'preset' is given twice"),
        ("spec.json", b'{"preset": "part", "preset": "part++"}', "'preset' is given twice"),
        ("spec.yaml", b"preset: [", "spec.yaml is not well formed"),
        ("spec.yaml", b"- a\n", "must hold an object"),
        ("spec.json", b"\xff", "is not UTF-8"),
        ("spec.txt", b"{}", "name a .json, .yaml or .toml file"),
        ("spec.yaml", b"preset: prt++\ndata: {dataset: digits}\n", "did you mean part++"),
    ],
)
def test_what_is_wrong_with_a_spec_is_told(name, raw, says, tmp_path, capsys):
    assert main(asked(tmp_path, name, raw)) == EXIT_USAGE
    assert says in capsys.readouterr().out


def test_a_missing_spec_is_told(tmp_path, capsys):
    missing = str(tmp_path / "absent.yaml")
    assert main(["--spec", missing, "--out", str(tmp_path)]) == EXIT_USAGE
    assert capsys.readouterr().out == f"{missing} cannot be read: No such file or directory.\n"
