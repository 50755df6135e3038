"""Repair as an operator asks for it: a copy first, a lock, and a space that opens behind it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import engram
from engram.cli.app import main
from engram.errors import SpaceDamaged, SpaceExists, SpaceLocked
from engram.inspect.repair import copy_folder, repair
from engram.inspect.sources import NewerFormat, NoLog, NothingThere
from engram.spaces.verify import verify
from tests.crash.histories import SPACE, fresh_space
from wal.sim_vfs import SimCrash, keep_everything, lose_everything


def contents(folder: Path) -> dict[str, bytes]:
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    files.pop("LOCK", None)
    return files


@pytest.fixture
def bad(root: Path) -> Path:
    return root / "bad"


def break_last(space: Path) -> None:
    (segment,) = (space / "log").glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[-12] ^= 1
    segment.write_bytes(data)


def test_a_sound_space_is_left_alone(bad: Path) -> None:
    before = contents(bad.parent)
    for dry_run in (False, True):
        assert repair(bad, dry_run=dry_run).steps == []
    assert contents(bad.parent) == before


def test_the_end_is_accepted_behind_a_copy(bad: Path) -> None:
    break_last(bad)
    before = contents(bad)
    assert not verify(bad)[0].ok
    planned = repair(bad, dry_run=True)
    assert (planned.copy, planned.kept) == (None, [])
    assert contents(bad) == before
    done = repair(bad)
    assert done.steps == planned.steps
    assert done.steps[0]["lost"] == {"first": 3, "last": 3}
    assert done.copy == str(bad.parent / "bad.before-repair-1")
    assert contents(Path(done.copy)) == before
    assert set(done.kept) <= {p.name for p in (bad / "quarantine").iterdir()}
    assert repair(bad).steps == []
    with engram.open(bad.parent) as db:
        space = db.space("bad")
        assert [m.id for m in space.list().memories] == ["one"]
        assert [info.memory_space_id for info in db.spaces()] == ["bad", "good"]


def test_copies_are_numbered_or_go_where_they_are_wanted(bad: Path, tmp_path: Path) -> None:
    (bad / "MANIFEST-1").unlink()
    assert str(repair(bad).copy).endswith("before-repair-1")
    (bad / "MANIFEST-1").write_bytes(b"broken")
    assert str(repair(bad).copy).endswith("before-repair-2")
    (bad / "log" / "notes").write_text("x")
    with pytest.raises(SpaceExists):
        repair(bad, output=bad.parent / "good")
    with pytest.raises(NothingThere):
        repair(bad, output=tmp_path / "no" / "folder")
    assert (bad / "log" / "notes").exists()
    assert repair(bad, output=tmp_path / "copy").copy == str(tmp_path / "copy")
    assert (tmp_path / "copy" / "log" / "notes").exists()
    assert not (bad / "log" / "notes").exists()


def test_a_space_in_use_is_refused(bad: Path) -> None:
    with engram.open(bad.parent) as db:
        db.space("bad").list()
        (bad / "log" / "notes").write_text("x")
        with pytest.raises(SpaceLocked):
            repair(bad)
        assert not list(bad.parent.glob("bad.*"))
    assert repair(bad).steps != []


def test_damage_in_the_middle_and_a_lost_identity_are_for_salvage(bad: Path) -> None:
    (segment,) = (bad / "log").glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[4_096 + 70] ^= 1
    segment.write_bytes(data)
    before = contents(bad.parent)
    for dry_run in (False, True):
        with pytest.raises(SpaceDamaged, match="salvage"):
            repair(bad, dry_run=dry_run)
    assert contents(bad.parent) == before
    (bad.parent / "good" / "space.json").unlink()
    with pytest.raises(SpaceDamaged, match=r"space\.json"):
        repair(bad.parent / "good")


def test_what_is_no_space_or_of_a_newer_format_is_refused(bad: Path) -> None:
    with pytest.raises(NoLog):
        repair(bad.parent)
    with pytest.raises(NoLog):
        repair(bad / "MANIFEST-1")
    shutil.rmtree(bad / "log")
    with pytest.raises(SpaceDamaged):
        repair(bad)
    manifest = bad.parent / "good" / "MANIFEST-1"
    manifest.write_bytes(manifest.read_bytes().replace(b"MANIFEST 1 ", b"MANIFEST 9 ", 1))
    with pytest.raises(NewerFormat):
        repair(bad.parent / "good")


def test_a_copy_is_whole_or_not_there_wherever_it_is_interrupted() -> None:
    start = fresh_space()
    whole = start.contents()[SPACE]
    point = 0
    while True:
        point += 1
        disk = start.clone()
        disk.crash_at(point, after=point % 2 == 0)
        try:
            copy_folder(disk.root().open_dir(SPACE), disk.root(), "copy")
        except SimCrash:
            for choice in (lose_everything(), keep_everything()):
                left = disk.crash(choice)
                assert left.contents()[SPACE] == whole
                assert left.contents().get("copy", whole) == whole
                if "copy" not in left.contents():
                    copy_folder(left.root().open_dir(SPACE), left.root(), "copy")
                    assert left.crash(lose_everything()).contents()["copy"] == whole
        else:
            assert point > 8
            return


def test_it_says_what_it_did(bad: Path, capfd: pytest.CaptureFixture[str]) -> None:
    break_last(bad)
    (bad / "MANIFEST-1").unlink()
    (bad / "log" / "notes").write_text("x")
    assert main(["log", "repair", str(bad), "--dry-run"]) == 0
    planned = capfd.readouterr().out.splitlines()
    assert planned[0] == "bad: would be repaired"
    assert main(["log", "repair", str(bad)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "bad: was repaired"
    assert lines[1].endswith("before-repair-1")
    for step in ("moved aside: log/notes, 1 bytes", "restored: MANIFEST-1", "ended: ", "lost: "):
        assert any(line.startswith(f"  {step}") for line in lines)
        assert any(line.startswith(f"  {step}") for line in planned)
    assert main(["log", "repair", str(bad), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["steps"] == []


def with_checkpoints(root: Path, *, shortened: bool) -> Path:
    with engram.open(root) as db:
        space = db.space("bad")
        if shortened:
            space.configure(retention="positions:1")
            space.compact()
        space.remember("more", id="more", embedding=[1, 0, 0])
        space.compact()
        space.remember("last", id="last", embedding=[1, 0, 0])
        space.compact()
    return root / "bad"


@pytest.mark.parametrize("shortened", [False, True], ids=["whole", "shortened"])
@pytest.mark.parametrize("how", ["flipped", "gone"])
def test_a_checkpoint_that_the_log_can_do_without_is_dropped(
    root: Path, shortened: bool, how: str
) -> None:
    bad = with_checkpoints(root, shortened=shortened)
    first, newest = sorted((bad / "checkpoints").iterdir())
    broken, other = (newest, first) if shortened else (first, newest)
    data = bytearray(broken.read_bytes())
    data[5_000] ^= 1
    broken.write_bytes(data)
    if how == "gone":
        broken.unlink()
    before = contents(bad)
    done = repair(bad)
    assert [step["step"] for step in done.steps] == ["drop-checkpoint"]
    assert done.copy is not None
    assert contents(Path(done.copy)) == before
    assert list((bad / "checkpoints").iterdir()) == [other]
    assert done.kept == ([] if how == "gone" else [f"{broken.name}-0.torn"])
    assert repair(bad).steps == []
    with engram.open(root) as db:
        assert {m.id for m in db.space("bad").list().memories} == {"one", "two", "more", "last"}


@pytest.mark.parametrize("how", ["base", "manifest"])
def test_a_base_is_never_given_up(root: Path, how: str) -> None:
    bad = with_checkpoints(root, shortened=True)
    base, _ = sorted((bad / "checkpoints").iterdir())
    if how == "base":
        base.unlink()
    else:
        next(bad.glob("MANIFEST-*")).unlink()
    before = contents(bad.parent)
    with pytest.raises(SpaceDamaged, match=r"behind which history begins|have no predecessor"):
        repair(bad)
    assert contents(bad.parent) == before
