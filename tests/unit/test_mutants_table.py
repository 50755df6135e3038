"""The table of mutants: it shows what survives, and finds all that the tests list."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.crash import test_feed_mutants, test_mutants, test_space_lifecycle

ROOT = Path(__file__).parents[2]
MODULE = """
import os
import pytest

def keeps(patch):
    pass

def breaks(patch):
    patch.setattr(os, "sep", "?")

def holds():
    assert os.sep == "/"

MUTANTS = [{mutants}]

@pytest.mark.parametrize(("mutate", "holds"), MUTANTS)
def test_it_is_caught(mutate, holds, monkeypatch):
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        holds()

def test_that_plants_nothing():
    raise RuntimeError("this one is not to be run")
"""


def table(*modules: Path | str, json_output: bool = True) -> tuple[int, str]:
    command = [sys.executable, "tools/mutants.py", *(["--json"] if json_output else [])]
    done = subprocess.run(
        [*command, *map(str, modules)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + ("" if json_output else done.stderr)


def module_with(folder: Path, mutants: str) -> Path:
    path = folder / "test_planted.py"
    path.write_text(MODULE.format(mutants=mutants))
    return path


def rows(output: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(output)["mutants"]
    return found


def test_a_mutant_that_is_caught_is_a_row(tmp_path: Path) -> None:
    code, output = table(module_with(tmp_path, "(breaks, holds)"))
    assert code == 0
    (row,) = rows(output)
    assert (row["mutant"], row["breaks"], row["check"]) == ("breaks", ["os.sep"], "holds")
    assert row["caught"] is True


def test_one_that_survives_fails_the_run(tmp_path: Path) -> None:
    module = module_with(tmp_path, "(breaks, holds), (keeps, holds)")
    code, output = table(module)
    assert code == 1
    assert [row["caught"] for row in rows(output)] == [True, False]
    code, output = table(module, json_output=False)
    assert code == 1
    assert "keeps survived" in output
    assert "1 of 2 caught" in output


@pytest.mark.parametrize("mutants", ["", "(nobody, holds)"], ids=["none", "unreadable"])
def test_a_run_that_planted_nothing_fails(tmp_path: Path, mutants: str) -> None:
    code, output = table(module_with(tmp_path, mutants))
    assert code == 1
    assert rows(output) == []


def test_all_that_the_tests_list_are_found() -> None:
    listed = [*test_mutants.MUTANTS, *test_feed_mutants.MUTANTS]
    wanted = {mutate.__name__ for mutate, _ in listed}
    wanted |= {mutate.__name__ for mutate in test_space_lifecycle.MUTANTS}
    code, output = table("--list")
    assert code == 0
    assert wanted <= set(output.split())
    assert len(output.split()) >= len(listed) + len(test_space_lifecycle.MUTANTS)
