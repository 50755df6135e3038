"""System calls of a real process that fail, or that it is killed in: `make faults` tries every one.

Here each fault strikes in a few places only, which are not the same for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest

from tests.crash.faults import FAULTS, Fault, NotHere, Tracer
from tests.crash.victim import STEPS, Books, Step, open_small, warm_up

# Every so manieth call: some three places a fault.
STRIDES = {
    "fdatasync": 15,
    "fsync": 25,
    "renameat": 9,
    "openat": 110,
    "ftruncate": 13,
    "fallocate": 3,
    "pwrite64": 17,
    "pread64": 30,
    "unlinkat": 6,
    "mkdirat": 6,
}


@pytest.fixture(scope="module")
def tracer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracer]:
    try:
        tracer = Tracer(tmp_path_factory.mktemp("faults"))
    except NotHere as reason:
        pytest.skip(str(reason))
    yield tracer
    tracer.close()


@pytest.mark.parametrize("fault", FAULTS.values(), ids=str)
def test_a_failing_call_loses_nothing_that_was_acknowledged(fault: Fault, tracer: Tracer) -> None:
    stride = STRIDES[fault.call]
    first = 1 + crc32(str(fault).encode()) % min(stride, 6)
    try:
        hit = tracer.strike_everywhere(fault, stride, first)
    except NotHere as reason:
        pytest.skip(str(reason))
    assert hit >= 1, "the fault was never met"


def test_a_fault_that_is_not_met_leaves_everything_done(tracer: Tracer) -> None:
    try:
        assert not tracer.strike(Fault("fdatasync", "EIO"), 60_000)
    except NotHere as reason:
        pytest.skip(str(reason))


@pytest.fixture
def books(tracer: Tracer, tmp_path: Path) -> tuple[Books, Path]:
    """A report of a run without a fault, and its data root."""
    warm_up(tmp_path / "run")
    return Books.of(tmp_path / "run" / "report"), tmp_path / "run" / "data"


def test_the_books_notice_what_is_lost(books: tuple[Books, Path]) -> None:
    found, root = books
    with open_small(root) as db:
        db.space("a").forget("7")
    with pytest.raises(AssertionError, match="nobody asked for"):
        found.check(root)


def test_the_books_notice_what_was_refused_and_is_there(books: tuple[Books, Path]) -> None:
    found, root = books
    number = next(n for n, s in enumerate(STEPS) if s.space == "a" and s.verb == "revise")
    found.fate[number] = "refused"
    with pytest.raises(AssertionError, match=f"step {number} is there"):
        found.check(root)


def test_the_books_notice_a_space_that_came_back(books: tuple[Books, Path]) -> None:
    found, root = books
    made_again = max(n for n, s in enumerate(STEPS) if s == Step("create", "b"))
    for number in range(made_again, len(STEPS)):
        if STEPS[number].space == "b":
            del found.fate[number]
    with pytest.raises(AssertionError, match="b is alive"):
        found.check(root)


def test_the_books_notice_an_acknowledged_step_that_is_missing(books: tuple[Books, Path]) -> None:
    found, root = books
    with open_small(root) as db:
        db.delete_space("a")
        db.purge_space("a")
        db.create_space("a", embedding=db.space_info("b").embedding)
    with pytest.raises(AssertionError, match="was acknowledged and is not there"):
        found.check(root)
