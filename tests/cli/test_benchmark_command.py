import json
from typing import get_args

import pytest


def test_tables_are_those_of_the_package():
    from tomoseg_cli.benchmark import TABLES

    from tomoseg.evaluation.tables import Table

    assert get_args(Table) == TABLES


def test_wrong_requests_are_refused_with_what_to_do(tmp_path, tomoseg):
    code, _, err = tomoseg("benchmark", "table9", "--out", tmp_path)
    assert code == 2
    assert "table1" in err
    code, _, err = tomoseg("benchmark", "table4", "--dim", 2, "--out", tmp_path / "a")
    assert code == 2
    assert "--pictures" in err
    code, _, err = tomoseg(
        "benchmark", "table4", "--dim", 2, "--out", tmp_path / "b", "--pictures", tmp_path
    )
    assert code == 1
    assert "NAME.jpg" in err
    code, _, err = tomoseg("benchmark", "table3", "--out", tmp_path / "c", "--only", "P+V")
    assert code == 2
    assert "'P+V'" in err
    assert "'P+U'" in err


def test_one_row_of_one_tomogram_end_to_end(tmp_path, tomoseg, monkeypatch):
    pytest.importorskip("matplotlib")
    from tomoseg.evaluation import tables

    monkeypatch.setattr(tables, "SHAPE", (32, 64, 64))
    command = ("benchmark", "table3", "--dim", 2, "--limit", 1, "--out", tmp_path, "--only", "P+U")
    code, out, _ = tomoseg(*command, "--json")
    assert code == 0
    (record,) = json.loads(out)["table3"]["records"]
    assert (record["method"], record["dim"], record["data"]) == ("P+U", 2, "home, SNR 0.5")
    assert 0 < record["maximum_f"] <= 1
    code, out, _ = tomoseg(*command)
    assert out.strip() == str(tmp_path / "results.md")
    assert "| P+U |" in (tmp_path / "results.md").read_text()
