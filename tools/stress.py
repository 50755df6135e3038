"""Many workers in several spaces at once, through a real server, each answer held against a model.

    python -m tools.stress [--operations 50000] [--spaces 10] [--workers 16] [--seed N]

All spaces use the same ids. A worker owns some of the ids in every space, so it knows what each of
them holds: an answer that differs is a fault. Every memory names its space in its content, its
source and its metadata, so whatever else comes back (in a recall, a list, a batch) shows where it
belongs: one that belongs elsewhere is a cross-space observation. Ends with status 1 if there was
either.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import engram
from engram import Changes, Filter, Memory, NewMemory
from engram.errors import MemoryExists, MemoryNotFound

IDS_PER_WORKER: Final = 6
SHOWN_MAX: Final = 5


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """The URL of a server in a process of its own."""
    command = [sys.executable, "-m", "engram.cli.app", "serve", "--data-root", str(root)]
    with subprocess.Popen(
        [*command, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().removeprefix("engram ready ").strip()
        finally:
            process.terminate()


class Worker:
    """One worker: what it expects of its ids, and what it found otherwise."""

    def __init__(self, number: int, client: engram.Client, spaces: list[str], seed: int) -> None:
        self._ids = [f"m{number}-{n}" for n in range(IDS_PER_WORKER)]
        self._spaces = {name: client.space(name) for name in spaces}
        self._held: dict[tuple[str, str], str] = {}
        self._draw = random.Random(f"{seed}-{number}")
        self._serial = itertools.count()
        self._name = number
        self.faults: list[str] = []
        self.crossings: list[str] = []
        self.done: collections.Counter[str] = collections.Counter()

    def step(self) -> None:
        """One operation, in a space and on an id of its own by chance."""
        name, memory_id = self._draw.choice(list(self._spaces)), self._draw.choice(self._ids)
        kind = self._draw.choice(
            ("remember", "remember", "revise", "forget", "get", "get", "recall", "list")
        )
        self.done[kind] += 1
        try:
            getattr(self, kind)(name, memory_id)
        except (MemoryExists, MemoryNotFound) as error:
            lives = (name, memory_id) in self._held
            if lives != isinstance(error, MemoryExists):
                self.faults.append(f"{kind} {memory_id} in {name}: {error.detail}")

    def remember(self, name: str, memory_id: str) -> None:
        content = self._content(name)
        new = NewMemory(content=content, id=memory_id, source=name, metadata={"space": name})
        for memory in self._spaces[name].remember_many([new]).memories:
            self._look(name, memory)
        self._expect_none(name, memory_id, "remember")
        self._held[name, memory_id] = content

    def revise(self, name: str, memory_id: str) -> None:
        content = self._content(name)
        self._look(name, self._spaces[name].revise(memory_id, Changes(content=content)))
        self._held[name, memory_id] = content

    def forget(self, name: str, memory_id: str) -> None:
        self._spaces[name].forget(memory_id)
        self._held.pop((name, memory_id), None)

    def get(self, name: str, memory_id: str) -> None:
        memory = self._spaces[name].get(memory_id)
        self._look(name, memory)
        expected = self._held.get((name, memory_id))
        if memory.content != expected:
            self.faults.append(f"get {memory_id} in {name}: {memory.content!r}, not {expected!r}")

    def recall(self, name: str, memory_id: str) -> None:
        # The words of another space, which must find nothing of it here.
        other = self._draw.choice(list(self._spaces))
        for hit in self._spaces[name].recall(f"belongs to {other}", limit=20):
            self._look(name, hit.memory)

    def list(self, name: str, memory_id: str) -> None:
        for memory in self._spaces[name].list(limit=20).memories:
            self._look(name, memory)
        other = self._draw.choice([each for each in self._spaces if each != name])
        for memory in self._spaces[name].list(Filter(source=other)).memories:
            self._look(name, memory)

    def _content(self, name: str) -> str:
        return f"belongs to {name}, written by {self._name} as number {next(self._serial)}"

    def _expect_none(self, name: str, memory_id: str, what: str) -> None:
        if (name, memory_id) in self._held:
            self.faults.append(f"{what} {memory_id} in {name} was done twice")

    def _look(self, name: str, memory: Memory) -> None:
        said = (memory.memory_space_id, memory.source, memory.metadata.get("space"))
        if set(said) != {name} or not memory.content.startswith(f"belongs to {name},"):
            self.crossings.append(f"in {name}: {memory.id} of {said}: {memory.content!r}")


def stress(root: Path, operations: int, spaces: int, workers: int, seed: int) -> dict[str, Any]:
    """What so many operations came to."""
    names = [f"space-{number}" for number in range(spaces)]
    with serving(root) as url, engram.Client(url) as client:
        for name in names:
            client.create_space(name)
        crew = [Worker(number, client, names, seed) for number in range(workers)]
        broken: list[BaseException] = []

        def run(worker: Worker) -> None:
            try:
                for _ in range(operations // workers):
                    worker.step()
            except BaseException as error:
                broken.append(error)

        threads = [threading.Thread(target=run, args=(worker,)) for worker in crew]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if broken:
        raise broken[0]
    crossings = [each for worker in crew for each in worker.crossings]
    faults = [each for worker in crew for each in worker.faults]
    done = sum((worker.done for worker in crew), collections.Counter())
    return {
        "seed": seed,
        "operations": done.total(),
        "by_kind": dict(sorted(done.items())),
        "cross_space_observations": len(crossings),
        "faults": len(faults),
        "shown": [*crossings[:SHOWN_MAX], *faults[:SHOWN_MAX]],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--operations", type=int, default=50_000)
    parser.add_argument("--spaces", type=int, default=10)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = stress(Path(folder), **vars(options))
    print(json.dumps(found, indent=2))
    return int(bool(found["cross_space_observations"] or found["faults"]))


if __name__ == "__main__":
    sys.exit(main())
