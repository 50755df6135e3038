"""Many workers in several spaces at once, through a real server; `make stress` does more of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import engram
from tools.stress import Worker, stress

OPERATIONS = 1_600
SPACES = ["space-0", "space-1", "space-2"]


def test_no_worker_sees_anything_of_another_space(tmp_path: Path) -> None:
    found = stress(tmp_path, OPERATIONS, spaces=10, workers=16, seed=6)
    assert (found["operations"], found["shown"]) == (OPERATIONS, [])
    assert (found["cross_space_observations"], found["faults"]) == (0, 0)


class Mixed:
    """Spaces that are one and the same beneath."""

    def __init__(self, db: engram.Database) -> None:
        self._space = db.create_space("mixed")

    def space(self, name: str) -> Any:
        return self._space


class Behind:
    """Spaces that answer with what is in the one beside."""

    def __init__(self, db: engram.Database) -> None:
        self._db = db
        for name in SPACES:
            db.create_space(name)

    def space(self, name: str) -> Any:
        return self._db.space(SPACES[SPACES.index(name) - 1])


def test_spaces_that_are_mixed_up_would_be_noticed(tmp_path: Path) -> None:
    for number, mixing in enumerate((Mixed, Behind)):
        with engram.open(tmp_path / str(number)) as db:
            client: Any = mixing(db)
            worker = Worker(0, client, SPACES, seed=1)
            for _ in range(60):
                worker.step()
            assert worker.crossings, mixing
