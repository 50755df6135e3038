"""Runs every target, or those that are named, for so long or so often; goes on where it ended.

    python -m fuzz [--time SECONDS | --runs N] [--seed N] [--jobs N] [--folder DIR] [--canary]
                   [--json] [TARGET …]

The folder, `fuzz/corpus-local` by default, keeps for each target the inputs that reached new code,
from which the next run goes on, the number of executions so far, and the inputs that failed:
`python -m fuzz.TARGET FILE` repeats one. Exit codes: 0 all held, 1 one failed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from fuzz import TARGETS

HERE: Final = Path(__file__).parent
DONE: Final = re.compile(r"Done (\d+) runs")
AT: Final = re.compile(r"^#(\d+)", re.MULTILINE)
SECONDS: Final = 300
TAIL_CHARS: Final = 3_000
LINE: Final = "{:<14}{:>12}{:>14}{:>9}{:>9}  {}"


class Outcome(NamedTuple):
    """What came of one target. `total_runs` counts earlier runs with the same folder too."""

    target: str
    runs: int
    total_runs: int
    inputs: int
    seconds: float
    failed: bool
    said: str


def run(target: str, folder: Path, limits: list[str], canary: bool) -> Outcome:
    """Fuzz one target, or its canary, in a process of its own."""
    module = ["fuzz.canary", target] if canary else [f"fuzz.{target}"]
    corpus, failures = folder / target, folder / f"{target}-failures"
    count = folder / f"{target}.json"
    for needed in (corpus, failures):
        needed.mkdir(parents=True, exist_ok=True)
    before = json.loads(count.read_text())["runs"] if count.exists() else 0
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", *module, *limits, f"-artifact_prefix={failures}/", corpus],
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    # The seeds are executed too; libFuzzer counts them.
    counted = DONE.findall(done.stderr) or AT.findall(done.stderr) or ["0"]
    runs = int(counted[-1])
    count.write_text(json.dumps({"runs": before + runs}) + "\n")
    return Outcome(
        target,
        runs,
        before + runs,
        len(list(corpus.iterdir())),
        round(time.monotonic() - started, 1),
        done.returncode != 0 or not DONE.search(done.stderr),
        # The error comes first, and must not be lost before a long account of its input.
        done.stdout[-TAIL_CHARS:] + done.stderr[-TAIL_CHARS:],
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Runs the fuzz targets.")
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--time", type=int, default=SECONDS, help=f"seconds a target ({SECONDS})")
    limit.add_argument("--runs", type=int, help="executions a target")
    parser.add_argument("--seed", type=int, default=0, help="repeats a run on an empty folder")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="targets at a time")
    parser.add_argument("--folder", type=Path, default=HERE / "corpus-local")
    parser.add_argument("--canary", action="store_true", help="plant a bug in each: all must fail")
    parser.add_argument("--json", action="store_true", help="one document instead of the table")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    limits = [f"-runs={chosen.runs}"] if chosen.runs else [f"-max_total_time={chosen.time}"]
    limits.append(f"-seed={chosen.seed}")  # libFuzzer takes 0 for a new one each time
    outcomes: list[Outcome] = []
    if not chosen.json:
        print(LINE.format("target", "runs", "in all", "inputs", "seconds", ""), flush=True)
    with ThreadPoolExecutor(chosen.jobs) as pool:
        folder, names = chosen.folder.resolve(), chosen.targets or TARGETS
        for outcome in pool.map(lambda t: run(t, folder, limits, chosen.canary), names):
            outcomes.append(outcome)
            if not chosen.json:
                print(LINE.format(*outcome[:5], "FAILED" if outcome.failed else "ok"), flush=True)
    failed = [outcome for outcome in outcomes if outcome.failed]
    if chosen.json:
        print(json.dumps([outcome._asdict() for outcome in outcomes], indent=1))
    for outcome in failed if not chosen.json else []:
        print(f"\n{outcome.target}:\n{outcome.said}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
