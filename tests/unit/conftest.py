"""Fixtures of the engine's unit tests: a data root of their own, and a clock one can set."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import engram
from engram.errors import EngramError
from engram.spaces.database import Database
from engram.spaces.registry import Registry
from wal.os_vfs import open_root

DIMENSIONS = 3
CALLER = engram.EmbeddingSpec(model="caller", dimensions=DIMENSIONS)
START_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000
UNIT = [1.0, 0.0, 0.0]
CHILD_S_MAX = 30


class SetClock:
    """Nanoseconds since the epoch, standing still until told to go on."""

    def __init__(self) -> None:
        self.now_ns = START_NS

    def __call__(self) -> int:
        return self.now_ns

    def go_on(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND_NS)


def at_once(count: int, call: Callable[[int], object]) -> list[object]:
    """The results, or errors, of `count` threads that call at the same moment."""
    barrier, results = threading.Barrier(count, timeout=60), list[object]([None] * count)

    def run(index: int) -> None:
        barrier.wait()
        try:
            results[index] = call(index)
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def in_child(work: Callable[[], object]) -> object:
    """What `work` returned in a forked child, through JSON; fails if the child hangs or dies."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(CHILD_S_MAX)  # ends the child, hanging locks or not
        try:
            os.write(write, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(pid, 0)
    assert (status, bool(answer)) == (0, True)
    return json.loads(answer)


def refusal(use: Callable[[], object]) -> list[str]:
    try:
        use()
    except EngramError as error:
        return [type(error).__name__, error.detail]
    return ["done", ""]


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def db(tmp_path: Path, clock: SetClock) -> Iterator[Database]:
    """An empty data root whose time is `clock`."""
    root = tmp_path / "data"
    root.mkdir()
    registry = Registry(open_root(root), owner="a test", clock=clock)
    with Database(registry, root) as database:
        yield database


@pytest.fixture
def alpha(db: Database) -> engram.Space:
    """A space with the default embedder."""
    return db.create_space("alpha")


@pytest.fixture
def vectors(db: Database) -> engram.Space:
    """A space that takes the caller's vectors, of three dimensions."""
    return db.create_space("vectors", embedding=CALLER)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A closed data root with the spaces `good` and `bad`, two memories each."""
    path = tmp_path / "data"
    with engram.open(path) as db:
        for name in ("good", "bad"):
            space = db.create_space(name, embedding=CALLER)
            space.remember(f"{name} one", id="one", embedding=UNIT)
            space.remember(f"{name} two", id="two", embedding=UNIT)
    return path


def open_descriptors() -> list[str]:
    """What this process has open below a temporary folder."""
    links = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(link.readlink()))
        except FileNotFoundError:
            pass  # the descriptor of this very listing
    return sorted(name for name in links if "/data" in name)


@pytest.fixture
def nothing_left_open() -> Iterator[None]:
    if not Path("/proc/self/fd").exists():
        pytest.skip("this system does not list open descriptors")
    before, threads = open_descriptors(), threading.active_count()
    yield
    assert open_descriptors() == before
    assert threading.active_count() == threads


def wait_until(condition: Callable[[], bool]) -> None:
    """Return once it holds; nothing here says when it will, so it is looked at again and again."""
    for _ in range(2_000):
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError("it did not come about")
