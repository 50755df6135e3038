"""Tens of thousands of crash states, as `make simulate` tries millions; and that it can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.crash.histories import repeat
from tests.crash.simulation import explore
from wal.log import Log

ROOT = Path(__file__).parents[2]
SEEDS = (1_000, 2_000, 3_000, 4_000)
STATES = 19_000


def simulate(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "tools/simulate.py", "--json", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (found["failure"] is not None), done.stderr
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_no_crash_of_a_random_history_loses_anything(
    seed: int, record_property: pytest.RecordProperty
) -> None:
    found = simulate("--seed", str(seed), "--states", str(STATES))
    assert found["failure"] is None, found["failure"]
    assert found["states"] >= STATES
    record_property("states", found["states"])


def test_a_run_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    resume = tmp_path / "simulate.json"
    resume.write_text('{"next_seed": 69, "states": 5}')  # short histories
    first = simulate("--resume", str(resume), "--states", "1", "--jobs", "1")
    second = simulate("--resume", str(resume), "--states", "1", "--jobs", "1")
    assert (first["next_seed"], second["next_seed"]) == (70, 71)
    assert second["states_in_all"] == 5 + first["states"] + second["states"]
    assert simulate("--seed", "70", "--states", "1")["states"] == second["states"]


def test_a_planted_bug_is_found_and_names_the_line_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Log, "_sync_file", lambda self: None)
    found = explore(69)
    assert found.failure is not None
    assert "tools/simulate.py --seed 69 --states 1" in found.failure
    path = found.failure.split("histories ")[1].strip("'")
    with pytest.raises(AssertionError):
        repeat(path)
    monkeypatch.undo()
    repeat(path)
