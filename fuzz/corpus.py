"""Writes the seed corpus: `fuzz/corpus/<target>/<number>-<digest>`, the same files every time.

    python -m fuzz.corpus [FOLDER]

To be run, and its result committed, when a target's seeds or the format have changed.
"""

from __future__ import annotations

import sys
from hashlib import blake2b
from importlib import import_module
from pathlib import Path

from fuzz import TARGETS
from fuzz.driver import CORPUS


def write(folder: Path) -> int:
    """Replace all seeds below `folder`; returns how many there are."""
    count = 0
    for name in TARGETS:
        target = folder / name
        target.mkdir(parents=True, exist_ok=True)
        for old in target.iterdir():
            old.unlink()
        for number, seed in enumerate(import_module(f"fuzz.{name}").seeds()):
            digest = blake2b(seed, digest_size=4).hexdigest()
            (target / f"{number:02}-{digest}").write_bytes(seed)
            count += 1
    return count


if __name__ == "__main__":
    print(f"{write(Path(sys.argv[1]) if len(sys.argv) > 1 else CORPUS)} seeds")
