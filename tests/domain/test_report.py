"""Tables for papers, spreadsheets and programs say the same, and say what they rest on."""

import csv
import io
import json

from domain.report import FORMATS, Row, comma_separated, latex, markdown, row
from domain.results import AuditReport
from partlab.commands.evaluations import Format
from tests.domain.test_audit import first, result
from tests.domain.test_compare import OTHER, evaluation


def rows() -> list[Row]:
    sound = row("PART++ & co_1", "r1", evaluation(first(200)))
    half = result("pgd-20", "pgd", OTHER, complete=False)
    unsure = evaluation(OTHER).model_copy(
        update={
            "results": (evaluation(OTHER).results[0], half),
            "audit": AuditReport(verdict="incomplete", checks=()),
        }
    )
    return [sound, row("=PGD-AT", "r2", unsure)]


def test_markdown_has_intervals_verdicts_and_provenance():
    lines = markdown(rows()).splitlines()
    head = "| method | clean | pgd-20 | worst-case | n | threat | verdict | provenance |"
    assert lines[0] == head
    assert lines[1].count("|") == lines[2].count("|") == 9
    assert "| 50.00 [45.12, 54.88] |" in lines[2]
    assert "| linf 8/255 | sound |" in lines[2]
    assert "at most 42.50 [" in lines[3]
    assert lines[3].split("|")[-3].strip() == "incomplete"


def test_csv_is_read_back_and_no_formula():
    read = list(csv.DictReader(io.StringIO(comma_separated(rows()))))
    assert len(read) == 6
    assert read[0]["method"] == "PART++ & co_1"
    assert read[3]["method"] == "'=PGD-AT"
    assert (read[1]["attack"], float(read[1]["accuracy"]), read[1]["n"]) == ("pgd-20", 0.5, "400")


def test_latex_escapes_names_and_marks_what_is_not_sound():
    text = latex(rows())
    assert r"PART++ \& co\_1 & $82.50 \pm" in text
    assert "=PGD-AT$^{*}$ &" in text
    assert "% * incomplete" in text


def test_json_holds_everything():
    found = json.loads(FORMATS["json"](rows()))
    assert Row.model_validate(found[0]) == rows()[0]


def test_provenance_follows_every_outcome():
    assert row("a", "1", evaluation(first(200))).provenance == rows()[0].provenance
    changed = first(200) & ~first(1) | ~first(399)
    assert changed.count() == 200
    assert row("a", "1", evaluation(changed)).provenance != rows()[0].provenance
    moved = evaluation(first(200), model_sha256="other")
    assert row("a", "1", moved).provenance != rows()[0].provenance


def test_every_format_can_be_asked_for():
    assert {form.value for form in Format} == set(FORMATS)
