"""The fuzz targets run, hold for a while, and can fail; each starts from a corpus that is kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("atheris", reason="atheris has no build for this Python")

from fuzz import TARGETS
from fuzz.canary import PLANTED
from fuzz.driver import corpus_of

ROOT = Path(__file__).parents[2]
RUNS = 50_000


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def held(folder: Path, target: str, runs: int) -> Any:
    done = run(
        "fuzz", "--runs", str(runs), "--folder", str(folder), "--seed", "1", "--json", target
    )
    (outcome,) = json.loads(done.stdout)
    assert done.returncode == 0, outcome["said"]
    assert not list((folder / f"{target}-failures").iterdir())
    return outcome


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_survives_a_short_fuzzing(target: str, tmp_path: Path) -> None:
    outcome = held(tmp_path, target, RUNS)
    assert outcome["runs"] == RUNS
    assert outcome["inputs"] > 0


def test_a_second_run_goes_on_from_the_first(tmp_path: Path) -> None:
    first = held(tmp_path, "watermark", 3_000)
    second = held(tmp_path, "watermark", 4_000)
    assert second["total_runs"] == first["runs"] + second["runs"] == 7_000
    assert f"{first['inputs']} files found in {tmp_path}" in second["said"]


@pytest.mark.parametrize("target", TARGETS)
def test_a_planted_bug_is_found(target: str, tmp_path: Path) -> None:
    done = run("fuzz.canary", target, f"-runs={RUNS}", "-seed=1", f"-artifact_prefix={tmp_path}/")
    assert done.returncode != 0
    assert "Surprise: " in done.stdout + done.stderr
    assert [path.name.startswith("crash-") for path in tmp_path.iterdir()] == [True]


def test_a_failing_target_fails_the_run_and_leaves_the_input(tmp_path: Path) -> None:
    done = run(
        *("fuzz", "--runs", str(RUNS), "--folder", str(tmp_path), "--canary"),
        *("watermark", "manifest"),
    )
    assert done.returncode == 1
    assert done.stdout.count("FAILED") == 2
    assert "Surprise: " in done.stdout
    for target in ("watermark", "manifest"):
        (found,) = (tmp_path / f"{target}-failures").iterdir()
        again = run("fuzz.canary", target, str(found))
        assert "Surprise: " in again.stdout + again.stderr
        assert run(f"fuzz.{target}", str(found)).returncode == 0


def test_each_target_has_a_canary_and_a_corpus() -> None:
    assert set(PLANTED) == set(TARGETS)
    for target in TARGETS:
        assert len(list(corpus_of(target).iterdir())) >= 8


def test_the_corpus_is_the_same_each_time_it_is_made(tmp_path: Path) -> None:
    made: list[dict[str, bytes]] = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        assert run("fuzz.corpus", str(folder)).returncode == 0
        files = [path for path in folder.rglob("*") if path.is_file()]
        made.append({str(path.relative_to(folder)): path.read_bytes() for path in files})
    assert made[0] == made[1]
    assert len(made[0]) > 60
