"""What earlier versions wrote is read as they read it, and written on."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

import engram
from engram.spaces.verify import verify_space
from tests.format import golden

VERSIONS = sorted(path.stem for path in golden.FOLDER.glob("*.tar"))
NAMES = ("plain", "compacted", "purged", "shortened")


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def root(version: str, tmp_path: Path) -> Path:
    with tarfile.open(golden.FOLDER / f"{version}.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    return tmp_path / "root"


def test_there_are_golden_files() -> None:
    assert "1" in VERSIONS


def test_what_was_written_is_read_as_it_was(version: str, root: Path) -> None:
    expected = json.loads((golden.FOLDER / f"{version}.json").read_text("utf-8"))
    read = golden.told(root)
    for name in expected:
        for part in expected[name] if name in NAMES else ():
            found, wanted = read[name][part], expected[name][part]
            # What has been added since is not asked about.
            if isinstance(wanted, dict):
                found = {key: found.get(key) for key in wanted}
            elif part == "events":
                assert len(found) == len(wanted)
                found = [{key: f.get(key) for key in w} for f, w in zip(found, wanted, strict=True)]
            if part == "recalled":  # scores are rounded, and not always at the same step
                assert [id_ for id_, _ in found] == [id_ for id_, _ in wanted]
                wanted = [[id_, pytest.approx(score, abs=5e-6)] for id_, score in wanted]
            assert found == wanted, (name, part)
    for key, value in expected["deleted"].items():
        assert read["deleted"][key] == value


def test_all_of_it_verifies(root: Path) -> None:
    for name in NAMES:
        assert verify_space(root / name).ok, name


def test_it_is_written_on(root: Path) -> None:
    with engram.open(root) as db:
        for name in NAMES:
            space = db.space(name)
            at = space.info().position
            assert space.remember("written today", embedding=[1, 2]).position == at + 1
            space.compact()
        db.restore_space("deleted")
        assert db.space("deleted").get("back").revision == 2
    with engram.open(root) as db:
        for name in NAMES:
            memories = db.space(name).list().memories
            assert [memory.content for memory in memories][-1] == "written today"


def test_its_bundle_is_imported(version: str, root: Path) -> None:
    with engram.open(root) as db:
        copy = db.import_space("copy", root / "plain.bundle")
        assert [m.id for m in copy.list().memories] == [
            memory.id for memory in db.space("plain").list().memories
        ]
