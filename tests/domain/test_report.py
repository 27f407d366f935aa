"""Tables for papers, spreadsheets and programs say the same, and say what they rest on."""

import csv
import io
import json
import re
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.bitmap import Bitmap
from domain.errors import Incomparable
from domain.report import FORMATS, Row, comma_separated, latex, markdown, row, table
from domain.results import AuditFacts, AuditReport, Evaluation, ThreatModel
from partlab.commands.evaluations import Format
from tests.domain.test_audit import EPSILON, first, result
from tests.domain.test_compare import OTHER, evaluation

FACTS = AuditFacts(dataset="digits", model="small-cnn")
NEAR = ThreatModel(epsilon=Fraction(4, 255))
CELL = re.compile(r"\$(?:\\leq )?([\d.]+)_\{-([\d.]+)\}\^\{\+([\d.]+)\}\$")
"""An accuracy in LaTeX: value, and how far its interval goes down and up."""


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


def changed(**over) -> Row:
    """A row beside `rows()`'s first, of which something else is different."""
    return row("other", "r3", evaluation(first(190), facts=FACTS, **over))


def test_markdown_has_intervals_verdicts_and_provenance():
    lines = markdown(rows()).splitlines()
    head = "| method | clean | pgd-20 | worst-case | n | threat | verdict | provenance |"
    assert lines[0] == head
    assert lines[1].count("|") == lines[2].count("|") == 9
    assert "| 50.00 [45.12, 54.88] |" in lines[2]
    assert "| linf 8/255 | sound |" in lines[2]
    assert "| ≤ 42.50 [" in lines[3]
    assert lines[3].split("|")[-3].strip() == "incomplete"


@pytest.mark.parametrize("form", ["markdown", "latex"])
def test_a_caption_says_what_every_figure_is_of(form):
    text = table([changed()], form)
    for words in ("digits test images", "n = 400", "= 8/255", "best weights", "Wilson"):
        assert words in text, words
    assert "worst-case: right under each of pgd-20." in text
    assert "≤" not in text
    assert r"\leq" not in text
    several = table(rows(), form)
    assert "an upper bound of robust accuracy" in several


def test_csv_is_read_back_and_each_attack_has_its_own_radius():
    weaker = result("pgd-20@4/255", "pgd", first(250), threat=NEAR)
    whole = evaluation(first(200))
    text = comma_separated(
        [row("a", "r1", whole.model_copy(update={"results": (*whole.results, weaker)}))]
    )
    read = list(csv.DictReader(io.StringIO(text)))
    assert [line["attack"] for line in read] == ["clean", "pgd-20", "pgd-20@4/255", "worst-case"]
    assert [line["norm"] for line in read] == ["", "linf", "linf", "linf"]
    assert [line["epsilon"] for line in read[:1]] == [""]
    assert [float(line["epsilon"]) for line in read[1:]] == pytest.approx(
        [8 / 255, 4 / 255, 8 / 255]
    )
    assert (float(read[1]["accuracy"]), read[1]["n"]) == (0.5, "400")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=x", "\r=x", " =x", "＝1"])  # noqa: RUF001
def test_no_text_of_a_spreadsheet_is_a_formula(name):
    facts = AuditFacts(dataset="digits", model="small-cnn").model_copy(update={"dataset": name})
    text = comma_separated([row(name, "r1", evaluation(first(200), facts=facts))])
    for line in csv.DictReader(io.StringIO(text, newline="")):
        assert line["method"] == line["dataset"] == f"'{name.strip()}"


def test_markdown_keeps_a_name_in_its_cell():
    name = "a|b `c` *d* <b>e</b>\n_f_ g_h \\| i"
    line = markdown([row(name, "r1", evaluation(first(200)))]).splitlines()[2]
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 9
    assert r"a\|b \`c\` \*d\* \<b>e\</b> \_f\_ g_h \\\| i" in line


@given(hits=st.integers(0, 400))
def test_latex_writes_wilsons_bounds_and_no_symmetric_interval(hits):
    """[0, 0.95] is not 0.00 ± 0.48: what a reader adds up is what Wilson says, and in range."""
    each = row("a", "r1", evaluation(first(hits)))
    text = latex([each])
    assert "±" not in text
    assert r"\pm" not in text
    cells = [tuple(map(Decimal, cell)) for cell in CELL.findall(text)]
    assert len(cells) == 3
    for (value, down, up), shown in zip(cells, each.results, strict=True):
        assert 0 <= value - down <= value <= value + up <= 100
        assert float(value - down) == pytest.approx(100 * shown.interval.low, abs=0.005)
        assert float(value + up) == pytest.approx(100 * shown.interval.high, abs=0.005)


def test_latex_stands_by_itself_and_marks_what_is_not_sound():
    text = latex(rows())
    assert r"PART++ \& co\_1 & $82.50_{-" in text
    assert "=PGD-AT$^{*}$ &" in text
    assert "$^{*}$~audit: incomplete." in text
    assert r"$\leq 42.50_{" in text
    lines = text.splitlines()
    for which in ("table", "tabular"):
        assert sum(rf"\begin{{{which}}}" in line for line in lines) == 1
        assert sum(rf"\end{{{which}}}" in line for line in lines) == 1
    (caption,) = [line for line in lines if line.startswith(r"\caption{")]
    assert balanced(caption)
    form = re.search(r"\\begin\{tabular\}\{(\w+)\}", text)
    assert form is not None
    cells = [line.count(" & ") + 1 for line in lines if line.endswith(r"\\")]
    assert cells == [len(form[1])] * 3


def balanced(text: str) -> bool:
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


@given(name=st.text("ab_%&#$~^\\{}<>|[]*\n ", min_size=1))
def test_latex_reads_no_name_as_a_command(name):
    lines = latex([row(name, "r1", evaluation(first(200)))]).splitlines()
    (line,) = [line for line in lines if line.endswith(r"\\") and "_{-" in line]
    shown = line.partition(" & $")[0]
    commands = (
        r"\\(?:textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar)\{\}"
    )
    plain = re.sub(rf"{commands}|\\[&%$#_{{}}]|\{{[\[\]*]\}}", "", shown)
    assert not set(plain) & set("_%&#$~^\\{}<>|[]*"), shown
    assert not line.startswith(("[", "*"))
    assert sum(not each.startswith("%") for each in lines) == 11, "a comment stays on its line"


DIFFERENT = [
    ({"n": 100}, "n: 400 in PART++ & co_1 (r1) but 100 in other (r3)"),
    ({"threat": NEAR}, "threat: linf 8/255 in PART++ & co_1 (r1) but linf 4/255 in other (r3)"),
    ({"threat": ThreatModel(norm="l2", epsilon=EPSILON)}, "but l2 8/255 in other (r3)"),
    ({"data_sha256": "x"}, "test images: unknown, sha256 "),
    ({"sample_ids_sha256": "x"}, "test images: unknown, sha256 "),
    (
        {"results": (result("clean", "clean", first(330)), result("fgsm", "fgsm", first(190)))},
        "worst case over: pgd-20 in PART++ & co_1 (r1) but fgsm in other (r3)",
    ),
]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("over", "message"), DIFFERENT)
def test_rows_of_other_questions_are_refused_by_name(form, over, message):
    pair = [rows()[0], changed(**over)]
    with pytest.raises(Incomparable, match=re.escape(message)):
        table(pair, form)
    assert table(pair, form, force=True)


@pytest.mark.parametrize(
    ("over", "field"),
    [
        ({"n": 100}, "n"),
        ({"threat": NEAR}, "threat"),
        ({"data_sha256": "x"}, "test images"),
        (DIFFERENT[-1][0], "worst case over"),
        ({"averaged": True}, "weights"),
    ],
)
@pytest.mark.parametrize("form", ["markdown", "latex"])
def test_what_differs_in_a_forced_table_is_a_column_and_no_caption(form, over, field):
    pair = [rows()[0], changed(**over)]
    lines = table(pair, form, force=True).splitlines()
    heads = next(line for line in lines if line.startswith(("| method", "method")))
    assert field in [cell.strip(r" \|") for cell in re.split(r"[|&]", heads)]
    caption = next(line for line in lines if "Wilson" in line)
    values = {
        "n": "n =",
        "threat": "linf,",
        "test images": "digits test",
        "weights": "best weights",
    }
    assert values.get(field, "right under each of") not in caption


def test_other_weights_are_a_column_and_no_reason_to_refuse():
    """Which of raw and averaged weights are best is decided by validation, run by run."""
    assert "| best (averaged) |" in table([rows()[0], changed(averaged=True)], "markdown")


def test_an_attack_that_one_row_lacks_is_a_column_and_explained():
    more = (*evaluation(first(190)).results, result("pgd-20@4/255", "pgd", first(250), threat=NEAR))
    both = [changed(results=more), rows()[0]]
    text = table(both, "markdown", force=True)
    assert text.splitlines()[0].startswith(
        "| method | clean | pgd-20 | pgd-20@4/255 | worst-case |"
    )
    assert "| - |" in text.splitlines()[3]
    assert "-: not run." in text


def test_a_larger_radius_than_the_worst_cases_is_none_of_its_attacks():
    sweep = result("pgd-20@16/255", "pgd", first(9), threat=ThreatModel(epsilon=2 * EPSILON))
    more = (*evaluation(first(190)).results, sweep)
    assert table([changed(results=more), rows()[0]], "markdown")


@pytest.mark.parametrize("form", ["markdown", "csv", "latex"])
def test_clean_accuracy_is_no_worst_case(form):
    clean = first(330)
    unattacked = Evaluation.model_validate(
        {
            **evaluation(clean).model_dump(),
            "results": (result("clean", "clean", clean),),
            "audit": AuditReport(verdict="incomplete", checks=()),
        }
    )
    assert "worst-case" not in table([row("a", "r1", unattacked)], form)


def test_all_of_a_test_set_is_not_what_rounding_makes_of_it():
    nearly = Bitmap.of(i < 59_999 for i in range(60_000))
    text = table([row("a", "r1", evaluation(nearly))], "markdown")
    assert "| 99.998 [99.99, 99.9997] |" in text


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
