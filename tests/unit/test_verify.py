"""Offline verification: which folders it takes for spaces, and what it says of the others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import engram
from engram.errors import DataRootUnusable
from engram.spaces.verify import verify


def found(path: Path) -> dict[str, tuple[bool, bool]]:
    return {Path(r.path).name: (r.is_space, r.ok) for r in verify(path)}


SOUND = {"bad": (True, True), "good": (True, True)}


def test_folders_that_cannot_be_spaces_are_no_damage(root: Path) -> None:
    for name in ("lost+found", "Backup", "con", "empty", "other-things"):
        (root / name).mkdir()
    (root / "other-things" / "photo.jpg").write_text("x")
    shutil.copytree(root / "good", root / "GOOD")
    (root / "notes").write_text("a file")
    (root / "link").symlink_to(root / "good")
    (root / ".cache").mkdir()
    strangers = {"lost+found", "Backup", "con", "empty", "other-things", "GOOD"}
    assert found(root) == SOUND | dict.fromkeys(strangers, (False, True))
    with engram.open(root) as db:  # the same are no spaces to the registry
        assert [info.memory_space_id for info in db.spaces()] == list(SOUND)


@pytest.mark.parametrize("missing", ["space.json", "log"])
def test_a_space_without_one_of_its_parts_is_damaged(root: Path, missing: str) -> None:
    target = root / "bad" / missing
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()
    (report,) = [r for r in verify(root) if not r.ok]
    assert (Path(report.path).name, report.is_space, report.memories) == ("bad", True, 0)
    assert any("missing" in damage.reason for damage in report.damage)
    (alone,) = verify(root / "bad")
    assert alone.damage == report.damage


def test_what_is_wrong_with_the_identity_stands_first(root: Path) -> None:
    (root / "bad").rename(root / "renamed")
    (segment,) = (root / "renamed" / "log").glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[4096 + 20] ^= 1
    segment.write_bytes(data)
    (report,) = verify(root / "renamed")
    assert [damage.file for damage in report.damage] == ["space.json", f"log/{segment.name}"]
    assert report.memory_space_id is None


@pytest.mark.parametrize(
    ("name", "says"),
    [("nowhere", "nowhere does not exist"), ("file", "not a folder"), ("empty", "neither")],
)
def test_what_cannot_be_verified_is_said(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataRootUnusable, match=says):
        verify(tmp_path / name)
