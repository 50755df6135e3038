"""Spaces gone wrong on disk: refused where they are, unchanged, and nobody else notices."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import engram
from engram.errors import (
    EmbedderUnavailable,
    Invalid,
    SpaceDamaged,
    SpaceExists,
    SpaceNotFound,
    Unavailable,
)
from engram.spaces import entry as entry_module
from engram.spaces import registry as registry_module
from engram.spaces.identity import Identity
from tests.unit.conftest import CALLER, UNIT
from wal.os_vfs import OsDirectory
from wal.vfs import Directory

Break = Callable[[Path], None]


def put_a_copy_of_another_in_its_place(root: Path) -> None:
    shutil.rmtree(root / "bad")
    shutil.copytree(root / "good", root / "bad")


def copy_foreign_segment(root: Path) -> None:
    (segment,) = (root / "good" / "log").glob("*.seg")
    shutil.copy(segment, root / "bad" / "log" / "00000000000000000004-0000000002.seg")


def swap_segment(root: Path) -> None:
    (theirs,) = (root / "good" / "log").glob("*.seg")
    (ours,) = (root / "bad" / "log").glob("*.seg")
    shutil.copy(theirs, ours)


def copy_foreign_manifest(root: Path) -> None:
    (theirs,) = (root / "good").glob("MANIFEST-*")
    shutil.copy(theirs, root / "bad" / theirs.name)


def remove_manifest(root: Path) -> None:
    for manifest in (root / "bad").glob("MANIFEST-*"):
        manifest.unlink()


def remove_segments(root: Path) -> None:
    for segment in (root / "bad" / "log").iterdir():
        segment.unlink()


def remove_log(root: Path) -> None:
    shutil.rmtree(root / "bad" / "log")


def remove_identity(root: Path) -> None:
    (root / "bad" / "space.json").unlink()


def spoil_identity(root: Path) -> None:
    identity = root / "bad" / "space.json"
    identity.write_bytes(identity.read_bytes().replace(b'"generation": 1', b'"generation": 2'))


def flip_a_segment_header(root: Path) -> None:
    (segment,) = (root / "bad" / "log").glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[30] ^= 1
    segment.write_bytes(data)


def flip_the_first_record(root: Path) -> None:
    (segment,) = (root / "bad" / "log").glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[4096 + 20] ^= 1
    segment.write_bytes(data)


DAMAGE: list[tuple[Break, str]] = [
    (put_a_copy_of_another_in_its_place, "renamed or copied"),
    (copy_foreign_segment, "seg"),
    (swap_segment, "seg"),
    (copy_foreign_manifest, "MANIFEST"),
    (remove_manifest, "manifest"),
    (remove_segments, "missing"),
    (remove_log, "log"),
    (remove_identity, "space.json"),
    (spoil_identity, "checksum"),
    (flip_a_segment_header, "checksum"),
    (flip_the_first_record, "checksum"),
]


def contents(folder: Path) -> dict[str, bytes]:
    """Every byte below, but for the lock file, which names its last owner."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "LOCK")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.usefixtures("nothing_left_open")
@pytest.mark.parametrize(("damage", "says"), DAMAGE, ids=[d.__name__ for d, _ in DAMAGE])
def test_damage_is_refused_where_it_is_and_nowhere_else(
    root: Path, damage: Break, says: str
) -> None:
    damage(root)
    before = contents(root / "bad")
    with engram.open(root) as db:
        for _ in range(2):  # the second time from what is remembered of the first
            with pytest.raises(SpaceDamaged, match=says) as caught:
                db.space("bad").get("one")
            assert caught.value.memory_space_id == "bad"
        with pytest.raises(SpaceDamaged):
            db.space("bad").remember("x", embedding=UNIT)
        assert db.space_info("bad").state == "damaged"
        assert db.space_info("bad").detail == caught.value.detail
        assert "bad" in [info.memory_space_id for info in db.spaces()]
        with pytest.raises((SpaceExists, SpaceDamaged)):
            db.create_space("bad", embedding=CALLER)
        good = db.space("good")
        assert good.get("two").content == "good two"
        assert good.remember("three", embedding=UNIT).position == 4
    assert contents(root / "bad") == before


def test_a_renamed_folder_says_which_name_it_had(root: Path) -> None:
    (root / "bad").rename(root / "renamed")
    with engram.open(root) as db:
        with pytest.raises(SpaceDamaged, match="Give it back its name, 'bad'"):
            db.space("renamed")
        with pytest.raises(SpaceNotFound):
            db.space("bad")
    (root / "renamed").rename(root / "bad")
    with engram.open(root) as db:
        assert db.space("bad").get("one").content == "bad one"


def test_a_folder_replaced_behind_a_known_space_is_noticed(root: Path) -> None:
    with engram.open(root) as db:
        bad = db.space("bad")  # known, not open
        shutil.rmtree(root / "bad")
        with engram.open(root) as other:
            other.create_space("bad", embedding=CALLER)
        with pytest.raises(SpaceNotFound, match="was deleted"):
            bad.list()
        assert db.space("bad").list().memories == ()


@pytest.mark.usefixtures("nothing_left_open")
def test_a_repaired_space_is_looked_at_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry_module, "DAMAGE_REMEMBERED_S", 0.0)
    (manifest,) = (root / "bad").glob("MANIFEST-*")
    manifest.rename(root / "kept")
    with engram.open(root) as db:
        with pytest.raises(SpaceDamaged):
            db.space("bad").list()
        (root / "kept").rename(manifest)
        assert len(db.space("bad").list().memories) == 2


def test_a_damaged_space_is_read_once_in_a_few_seconds(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openings: list[str] = []
    now_s = [1_000.0]

    class Counted(registry_module.Store):
        def __init__(self, space_dir: Directory, identity: Identity, **options: Any) -> None:
            openings.append(identity.memory_space_id)
            super().__init__(space_dir, identity, **options)

    flip_the_first_record(root)
    monkeypatch.setattr(registry_module, "Store", Counted)
    monkeypatch.setattr(entry_module.time, "monotonic", lambda: now_s[0])
    with engram.open(root) as db:
        for seconds in (0.0, 0.1, 0.9):  # a program that tries again and again
            now_s[0] += seconds
            with pytest.raises(SpaceDamaged):
                db.space("bad").list()
        assert openings == ["bad"]
        now_s[0] += 30.0  # a person who mended it does not wait for long
        with pytest.raises(SpaceDamaged):
            db.space("bad").list()
        assert openings == ["bad", "bad"]


@pytest.mark.usefixtures("nothing_left_open")
def test_an_opening_that_fails_half_way_leaves_nothing_open(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    with engram.open(root) as db:
        with monkeypatch.context() as patched:
            patched.setattr("engram.memory.state.State.publish", fail)
            with pytest.raises(MemoryError):
                db.space("good").list()
        assert len(db.space("good").list().memories) == 2  # its lock was given back


def test_too_many_open_files_is_not_damage(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: OsDirectory, name: str) -> OsDirectory:
        raise OSError(errno.EMFILE, "Too many open files")

    with engram.open(root) as db:
        known = db.space("good")
        with monkeypatch.context() as patched:
            patched.setattr(OsDirectory, "open_dir", refuse)
            with pytest.raises(Unavailable, match="Too many open files"):
                known.list()
            with pytest.raises(Unavailable, match="Too many open files"):
                db.space("bad")
        assert len(known.list().memories) == 2
        assert len(db.space("bad").list().memories) == 2


def test_a_space_pinned_to_a_model_nobody_has_says_so_and_mixes_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = engram.EmbeddingSpec(model="a-later-model", dimensions=256)
    with monkeypatch.context() as patched:
        patched.setattr(registry_module, "embedder_for", lambda spec: None)
        with engram.open(root) as db:
            db.create_space("later", embedding=pinned)
    with engram.open(root) as db:
        later = db.space("later")
        assert later.info().embedding == pinned
        calls: list[Callable[[], object]] = [
            lambda: later.remember("x"),
            lambda: later.remember_many(["x", "y"]),
            lambda: later.recall("x"),
        ]
        for call in calls:
            with pytest.raises(EmbedderUnavailable, match="a-later-model"):
                call()
        assert later.recall("x", mode="lexical").results == ()
        assert (later.info().position, later.info().memories) == (1, 0)
        with pytest.raises(Invalid, match="a-later-model"):
            db.create_space("another", embedding=pinned)
