"""Data roots that cannot serve, are served already, or are closed; nothing is left open."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import engram
from engram.errors import (
    DataRootUnusable,
    SpaceLocked,
    Unavailable,
)
from tests.unit.conftest import UNIT
from wal.log import Log
from wal.os_vfs import OsDirectory


@pytest.mark.usefixtures("nothing_left_open")
class TestUnusableRoots:
    def test_a_file_is_not_a_data_root(self, tmp_path: Path) -> None:
        path = tmp_path / "data"
        path.write_text("a file")
        with pytest.raises(DataRootUnusable, match="not a folder"):
            engram.open(path)
        with pytest.raises(DataRootUnusable):
            engram.open(path / "below")
        assert path.read_text() == "a file"

    def test_a_folder_of_other_things_is_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "data"
        path.mkdir()
        (path / "photo.jpg").write_text("x")
        with pytest.raises(DataRootUnusable, match=r"photo\.jpg"):
            engram.open(path)
        assert [each.name for each in path.iterdir()] == ["photo.jpg"]

    def test_a_missing_folder_is_not_made_unasked(self, tmp_path: Path) -> None:
        with pytest.raises(DataRootUnusable, match="does not exist"):
            engram.open(tmp_path / "data", create=False)
        assert list(tmp_path.iterdir()) == []

    def test_a_path_that_cannot_be_one_says_so(self) -> None:
        with pytest.raises(DataRootUnusable, match="not a path"):
            engram.open("data\0")

    def test_folders_above_are_made_too(self, tmp_path: Path) -> None:
        with engram.open(tmp_path / "a" / "b" / "data") as db:
            db.create_space("alpha")
        assert (tmp_path / "a" / "b" / "data" / "alpha" / "space.json").exists()

    @pytest.mark.parametrize("damage", ["", "ENGRAM-LAYOUT 1 3 00000000\n{}\n", "x" * 100])
    def test_a_broken_layout_file_says_so(self, tmp_path: Path, damage: str) -> None:
        path = tmp_path / "data"
        engram.open(path).close()
        (path / ".engram" / "layout.json").write_text(damage)
        with pytest.raises(DataRootUnusable, match=r"layout\.json"):
            engram.open(path)
        assert (path / ".engram" / "layout.json").read_text() == damage

    def test_a_layout_of_a_later_version_asks_for_an_upgrade(self, tmp_path: Path) -> None:
        path = tmp_path / "data"
        engram.open(path).close()
        layout = path / ".engram" / "layout.json"
        layout.write_text(layout.read_text().replace("ENGRAM-LAYOUT 1 ", "ENGRAM-LAYOUT 2 "))
        with pytest.raises(DataRootUnusable, match="Upgrade"):
            engram.open(path)

    def test_a_second_server_is_refused_and_leaves_nothing_open(self, root: Path) -> None:
        with engram.open(root, exclusive=True, owner="server one"):
            with pytest.raises(SpaceLocked, match="server one"):
                engram.open(root, exclusive=True)
            engram.open(root).close()  # the embedded API may still look
        engram.open(root, exclusive=True).close()

    def test_a_failure_behind_the_server_lock_gives_it_back(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(self: OsDirectory) -> list[str]:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patched:
            patched.setattr(OsDirectory, "names", refuse)
            with pytest.raises(DataRootUnusable, match="Input/output"):
                engram.open(root, exclusive=True)
        engram.open(root, exclusive=True).close()


@pytest.fixture
def read_only(root: Path) -> Iterator[Path]:
    """The data root behind a read-only bind mount."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting needs root on Linux")
    mount = root.parent / "mounted-data"
    mount.mkdir()
    done = subprocess.run(["mount", "--bind", str(root), str(mount)], capture_output=True)
    if done.returncode:
        pytest.skip(f"mounts are not allowed here: {done.stderr.decode()}")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(mount)], check=True)
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)


@pytest.mark.usefixtures("nothing_left_open")
def test_a_read_only_data_root_says_what_to_do(read_only: Path) -> None:
    with pytest.raises(DataRootUnusable, match=r"writable|right to write") as caught:
        engram.open(read_only)
    assert str(read_only) in caught.value.detail


def test_running_out_of_descriptors_is_said_as_it_is(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: OsDirectory) -> list[str]:
        raise OSError(errno.EMFILE, "Too many open files")

    with engram.open(root) as db, monkeypatch.context() as patched:
        patched.setattr(OsDirectory, "names", refuse)
        for call in (db.spaces, lambda: engram.open(root)):
            with pytest.raises(Unavailable, match="ulimit"):
                call()


HOLD = """
import sys, engram
with engram.open(sys.argv[1], owner="the other one, pid 42") as db:
    db.space("good").info()
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has the space `good` open."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.mark.usefixtures("nothing_left_open")
def test_a_space_in_use_by_another_process_names_its_owner(
    held: subprocess.Popen[bytes], root: Path
) -> None:
    with engram.open(root) as db:
        good = db.space("good")
        calls: list[Callable[[], object]] = [
            lambda: good.remember("x", embedding=UNIT),
            lambda: good.get("one"),
            lambda: good.recall("one"),
            good.info,
            lambda: db.space_info("good"),
        ]
        for call in calls:
            with pytest.raises(SpaceLocked, match="the other one, pid 42") as caught:
                call()
            assert caught.value.memory_space_id == "good"
        assert db.space("bad").get("one").content == "bad one"
        assert [info.memory_space_id for info in db.spaces()] == ["bad", "good"]
        held.communicate(timeout=30)
        assert good.remember("x", embedding=UNIT).position == 4  # free again: no restart needed


@pytest.mark.usefixtures("nothing_left_open")
def test_a_space_that_fails_to_close_does_not_keep_the_others_open(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = engram.open(root)
    for name in ("bad", "good"):
        db.space(name).remember("x", embedding=UNIT)
    real, failed = Log.close, list[Log]()

    def close_but_complain_once(self: Log) -> None:
        real(self)
        if not failed:
            failed.append(self)
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Log, "close", close_but_complain_once)
        with pytest.raises(OSError, match="Input/output"):
            db.close()
    assert failed
    with engram.open(root, exclusive=True) as again:
        for name in ("bad", "good"):
            assert again.space(name).info().memories == 3


@pytest.mark.usefixtures("nothing_left_open")
def test_a_closed_database_is_unavailable_through_every_handle(root: Path) -> None:
    db = engram.open(root)
    opened, unopened = db.space("good"), db.space("bad")
    opened.remember("x", embedding=UNIT)
    db.close()
    db.close()
    calls: list[Callable[[], object]] = [
        lambda: db.space("good"),
        lambda: db.create_space("new"),
        lambda: db.ensure_space("good"),
        db.spaces,
        lambda: db.space_info("good"),
        opened.info,
        lambda: opened.get("one"),
        lambda: opened.recall("x"),
        lambda: opened.remember("x", embedding=UNIT),
        lambda: unopened.get("one"),
        lambda: unopened.list(),
    ]
    for call in calls:
        with pytest.raises(Unavailable):
            call()


@pytest.mark.usefixtures("nothing_left_open")
def test_closing_under_load_loses_nothing_that_was_acknowledged(root: Path) -> None:
    db = engram.open(root)
    acknowledged: list[list[str]] = [[] for _ in range(8)]
    errors: list[Exception] = []
    running = threading.Barrier(len(acknowledged) + 1, timeout=60)

    def write(index: int) -> None:
        space = db.space("good" if index % 2 else "bad")
        for number in range(10_000):
            try:
                acknowledged[index].append(space.remember(f"{number}", embedding=UNIT).id)
            except Unavailable:
                return
            except Exception as error:
                errors.append(error)
                return
            if number == 2:
                running.wait()

    threads = [threading.Thread(target=write, args=(i,)) for i in range(len(acknowledged))]
    for thread in threads:
        thread.start()
    running.wait()
    db.close()
    for thread in threads:
        thread.join()
    assert errors == []
    with engram.open(root) as again:
        for index, ids in enumerate(acknowledged):
            space = again.space("good" if index % 2 else "bad")
            for memory_id in ids:
                space.get(memory_id)
