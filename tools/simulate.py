"""Crashes a log on a simulated disk, in every way and at every point of random histories.

    python tools/simulate.py [--states N] [--seed N | --resume FILE] [--jobs N] [--json]

Each seed is one history; seeds are taken from the first on until so many different states have been
checked. `--resume` keeps in a file which seed is next and how many states there have been so far.
`--seed N --states 1` repeats one history. Exit codes: 0 every promise was kept, 1 one was not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

# Run as a file, Python looks for modules beside it; the packages are one folder up.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.crash.simulation import Explored, explore

STATES: Final = 100_000


def simulate(states: int, seed: int, jobs: int) -> list[Explored]:
    """Explore seeds, in order, until there are so many states or one has failed."""
    explored: list[Explored] = []
    checked = 0
    if jobs == 1:
        for number in count(seed):
            explored.append(explore(number))
            checked += explored[-1].states
            if checked >= states or explored[-1].failure:
                return explored
    numbers = count(seed)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running: deque[Future[Explored]] = deque()
        while checked < states:
            while len(running) < 2 * jobs:
                running.append(pool.submit(explore, next(numbers)))
            explored.append(running.popleft().result())
            checked += explored[-1].states
            if explored[-1].failure:
                break
        for future in running:
            future.cancel()
    return explored


def resumed(path: Path | None) -> dict[str, int]:
    if path is None or not path.exists():
        return {"next_seed": 0, "states": 0}
    found: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--states", type=int, default=STATES, help=f"how many ({STATES:,})")
    first = parser.add_mutually_exclusive_group()
    first.add_argument("--seed", type=int, default=0, help="the first history (0)")
    first.add_argument("--resume", type=Path, metavar="FILE", help="go on where it ended")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--json", action="store_true", help="one document instead of lines")
    chosen = parser.parse_args(arguments)
    before = resumed(chosen.resume)
    seed = before["next_seed"] if chosen.resume else chosen.seed
    started = time.monotonic()
    explored = simulate(chosen.states, seed, chosen.jobs)
    seconds = time.monotonic() - started
    failure = explored[-1].failure
    states = sum(each.states for each in explored)
    after: dict[str, Any] = {
        # A seed that failed is the next one again.
        "next_seed": explored[-1].seed + (failure is None),
        "states": before["states"] + states,
    }
    if chosen.resume:
        chosen.resume.write_text(json.dumps(after) + "\n", encoding="utf-8")
    if chosen.json:
        figures = {"states": states, "histories": len(explored), "seconds": round(seconds, 1)}
        total = {"next_seed": after["next_seed"], "states_in_all": after["states"]}
        print(json.dumps({**figures, **total, "failure": failure}, indent=1))
    else:
        print(
            f"{states:,} states of {len(explored)} histories, {seconds:.0f} s; in all "
            f"{after['states']:,}; go on with --seed {after['next_seed']}"
        )
        print(f"seed {explored[-1].seed}: {failure}" if failure else "every promise was kept")
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
