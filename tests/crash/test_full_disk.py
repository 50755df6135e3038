"""A real disk that fills: a small tmpfs. Needs root, to mount it.

Whatever the disk refuses is refused definitely, reads go on, and writes work again as soon as there
is room, without a restart.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

import engram
from engram.errors import DiskFull
from engram.spaces.database import Database
from tests.crash.victim import CALLER, VECTOR, open_small

MOST = 20_000


class Setting(NamedTuple):
    """How large the disk is, and how much of it is given back when it has filled up.

    A log asks for room to spare, at most a megabyte; less than that may be refused.
    """

    name: str
    disk_bytes: int
    ballast_bytes: int
    open: Callable[[Path], Database]


SETTINGS = (
    Setting("small segments", 1 << 20, 300_000, open_small),
    Setting("as shipped", 4 << 20, 2_500_000, engram.open),
)


@pytest.fixture(params=SETTINGS, ids=lambda setting: setting.name)
def setting(request: pytest.FixtureRequest) -> Setting:
    found: Setting = request.param
    return found


@pytest.fixture
def disk(tmp_path: Path, setting: Setting) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    command = ["mount", "-t", "tmpfs", "-o", f"size={setting.disk_bytes}", "none", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    (folder / "data").mkdir()
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def contents(space: engram.Space) -> dict[str, str]:
    found: dict[str, str] = {}
    after: int | None = 0
    while after is not None:
        page = space.list(limit=1_000, after=after)
        found |= {memory.id: memory.content for memory in page.memories}
        after = page.next
    return found


def fill(space: engram.Space, written: dict[str, str], start: int, size: int) -> None:
    """Remember until the disk is full; what was acknowledged is in `written`."""
    for number in range(start, start + MOST):
        memory_id, content = str(number), f"{number} ".ljust(size, "x")
        try:
            space.remember(content, id=memory_id, embedding=VECTOR)
        except DiskFull:
            return
        written[memory_id] = content
    raise AssertionError("the disk does not fill")


def cram(path: Path) -> None:
    """Take the room that is left, to the last page."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4_096)):
            pass


@pytest.mark.parametrize("size", [40, 3_000])
def test_a_disk_that_fills_refuses_definitely_and_recovers(
    disk: Path, size: int, setting: Setting
) -> None:
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(setting.ballast_bytes))
    written: dict[str, str] = {}
    with setting.open(disk / "data") as db:
        space = db.create_space("a", embedding=CALLER)
        other = db.create_space("b", embedding=CALLER)
        other.remember("untouched", id="x", embedding=VECTOR)
        fill(space, written, 0, size)
        cram(disk / "crumbs")
        # Refused is refused, and what was there is there to be read.
        for _ in range(3):
            with pytest.raises(DiskFull):
                space.remember("y" * 60_000, id="never", embedding=VECTOR)
            with pytest.raises(DiskFull):
                db.create_space("never", embedding=CALLER)
            assert contents(space) == written
            assert contents(other) == {"x": "untouched"}
            assert space.recall(embedding=VECTOR, limit=5).results
        assert space.info().position is not None
        ballast.unlink()
        (disk / "crumbs").unlink()
        space.remember("there is room again", id="again", embedding=VECTOR)
        written["again"] = "there is room again"
        assert space.info().state == "active"
        fill(space, written, MOST, size)
        assert contents(space) == written
        for memory_id in list(written)[:3]:
            try:
                space.forget(memory_id)
            except DiskFull:
                continue
            del written[memory_id]
    with setting.open(disk / "data") as db:
        space = db.space("a")
        assert contents(space) == written
        positions = [event.position for event in space.events()]
        assert positions == list(range(1, len(positions) + 1))
        assert contents(db.space("b")) == {"x": "untouched"}
        assert sorted(info.memory_space_id for info in db.spaces()) == ["a", "b"]


def test_a_full_disk_can_be_emptied_by_purging_a_space(disk: Path, setting: Setting) -> None:
    with setting.open(disk / "data") as db:
        doomed = db.create_space("doomed", embedding=CALLER)
        kept = db.create_space("kept", embedding=CALLER)
        doomed.remember("something", id="0", embedding=VECTOR)
        db.delete_space("doomed")
        written: dict[str, str] = {}
        fill(kept, written, 0, 3_000)
        assert db.purge_space("doomed").bytes > 0
        assert contents(kept) == written
