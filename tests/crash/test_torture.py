"""Some crash states of a real ext4, as `make torture` tries hundreds; and that it can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
STATES = 100


def torture(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "tools/torture.py", "--json", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 2:
        pytest.skip(done.stderr.strip())
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (found["failure"] is not None), done.stderr
    return found


def test_what_ext4_holds_after_a_power_cut_is_what_was_acknowledged(tmp_path: Path) -> None:
    resume = tmp_path / "torture.json"
    for turn in (1, 2):
        found = torture("--states", str(STATES // 2), "--resume", str(resume))
        assert found["failure"] is None, found["failure"]
        assert found["states_in_all"] >= turn * STATES // 2
    assert found["flushes"] > 50
    assert found["next_entry"] > 0


def test_files_that_are_not_synced_are_found() -> None:
    found = torture("--canary")
    assert found["failure"] is not None
