"""The rows of the report's tables: alike in everything but what the table is about."""

import pytest

from domain.presets import expand
from domain.spec import Part, TrainSpec
from partlab.reproduction import TABLES, THREE, submissions


def specs(table: str, *settings: str) -> dict[str, TrainSpec]:
    return {name: expand(body) for name, body in submissions(table, settings).items()}


@pytest.mark.parametrize("table", TABLES)
def test_rows_differ_in_their_method_alone(table):
    found = specs(table, "seed=7", "training.epochs=6")
    alike = {"data", "model", "training", "evaluation", "seed", "resources", "experiment"}
    first, *others = [one.model_dump(include=alike) for one in found.values()]
    assert all(one == first for one in others)
    assert first["seed"] == 7
    methods = [one.method for one in found.values()]
    assert len({method.model_dump_json() for method in methods}) == len(methods)
    assert [one.name for one in found.values()] == list(TABLES[table])


@pytest.mark.parametrize("table", TABLES)
def test_every_row_is_attacked_by_all_the_report_names(table):
    for spec in specs(table).values():
        kinds = [(a.kind, getattr(a, "steps", None)) for a in spec.evaluation.attacks]
        assert [k for k in kinds if k[0] == "pgd"] == [("pgd", 10), ("pgd", 20)]
        assert {"mma", "autoattack"} <= {kind for kind, _ in kinds}


def test_the_second_table_takes_the_ensemble_apart():
    cams = {name: spec.method.cam for name, spec in specs("table-2").items()}
    assert all(isinstance(spec.method, Part) for spec in specs("table-2").values())
    alone = [cam.members for cam in cams.values() if len(cam.members) == 1]
    assert alone == [(cam,) for cam in THREE]
    assert cams["equal ensemble"].weights is None
    assert cams["equal ensemble"].members == THREE
    assert cams["Score-CAM dominant"].weights == (1.0, 1.0, 2.0)


def test_the_first_sets_part_beside_its_baseline():
    rows = specs("table-1")
    assert [spec.preset for spec in rows.values()] == ["pgd-at", "part", "part++"]
    assert rows["PGD-AT"].method.epsilon == rows["PART++"].method.epsilon_high
