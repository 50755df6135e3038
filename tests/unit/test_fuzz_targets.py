"""The fuzz targets run, hold for a while, and can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("atheris", reason="atheris has no build for this Python")

ROOT = Path(__file__).parents[2]


def run(module: str, artifacts: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, "-runs=20000", "-seed=1", "-max_total_time=60"]
    return subprocess.run(
        [*command, f"-artifact_prefix={artifacts}/"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_the_record_codec_survives_a_short_fuzzing(tmp_path: Path) -> None:
    done = run("fuzz.record_codec", tmp_path)
    assert done.returncode == 0, done.stderr[-3_000:]
    assert "Done 20000 runs" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_canary_s_planted_bug_is_found(tmp_path: Path) -> None:
    done = run("fuzz.canary", tmp_path)
    assert done.returncode != 0
    assert "damage was taken for the end of the log" in done.stdout + done.stderr
    assert [path.name.startswith("crash-") for path in tmp_path.iterdir()] == [True]
