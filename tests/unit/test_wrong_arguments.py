"""What a Python caller may get wrong is told by name, and never as a TypeError of ours."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engram
from engram.errors import (
    DiskFull,
    EmbedderUnavailable,
    Invalid,
    SpaceExists,
    SpaceInvalid,
    SpaceLocked,
    TooLarge,
)
from engram.limits import CONTENT_BYTES_MAX, METADATA_BYTES_MAX, QUERY_BYTES_MAX
from engram.spaces import changing
from tests.unit.conftest import CALLER
from wal.os_vfs import OsDirectory


class BytesPath:
    def __fspath__(self) -> bytes:
        return b"data"


@pytest.mark.parametrize("path", [None, 5, b"data", "", BytesPath(), ["data"]])
def test_what_is_no_path_is_refused(
    path: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Invalid) as caught:
        engram.open(path)
    assert [error.field for error in caught.value.errors] == ["path"]
    assert list(tmp_path.iterdir()) == []


SPACES: list[tuple[dict[str, Any], type[Exception]]] = [
    ({"after": 5}, SpaceInvalid),
    ({"after": "A"}, SpaceInvalid),
    ({"after": ""}, SpaceInvalid),
    ({"limit": "3"}, Invalid),
    ({"limit": -1}, Invalid),
    ({"limit": 1.0}, Invalid),
    ({"limit": True}, Invalid),
]


@pytest.mark.parametrize(("asked", "error"), SPACES)
def test_a_listing_of_spaces_is_asked_for_in_full(
    db: engram.Database, asked: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        db.spaces(**asked)
    db.create_space("alpha")
    assert db.spaces(limit=0) == []


@pytest.mark.parametrize("space_id", [None, 5, b"alpha"])
def test_a_space_is_ensured_by_its_id(db: engram.Database, space_id: Any) -> None:
    with pytest.raises(SpaceInvalid):
        db.ensure_space(space_id)
    assert db.spaces() == []


FIELDS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "explain": (lambda s: s.recall("x", explain="no"), "explain"),
    "explain as a number": (lambda s: s.recall("x", explain=1), "explain"),
    "record": (lambda s: s.recall("x", record=None), "record"),
    "tags without dimensions": (lambda s: s.remember("x", tags=np.array("ops")), "tags"),
    "tags as a mapping": (lambda s: s.remember("x", tags={"ops": 1}), "tags"),
    "tags as bytes": (lambda s: s.remember("x", tags=b"ops"), "tags"),
    "tags as a number": (lambda s: s.remember("x", tags=5), "tags"),
    "a batch without dimensions": (lambda s: s.remember_many(np.array("x")), "memories"),
    "a batch of bytes": (lambda s: s.remember_many(b"x"), "memories"),
    "an operator for a key": (
        lambda s: s.recall("x", filter=engram.Filter(metadata={"$or": [{"a": 1}]})),
        "filter.metadata.$or",
    ),
    "an operator for a key of a list": (
        lambda s: s.list(engram.Filter(metadata={"a": 1, "$gt": 1})),
        "filter.metadata.$gt",
    ),
}


@pytest.mark.parametrize(("call", "field"), FIELDS.values(), ids=FIELDS.keys())
def test_a_wrong_argument_is_named(
    alpha: engram.Space, call: Callable[[Any], Any], field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        call(alpha)
    assert [error.field for error in caught.value.errors] == [field]
    if "$" in field:
        assert "$in $gt $gte $lt $lte $ne $exists" in caught.value.detail


def test_tags_may_come_in_any_row(alpha: engram.Space) -> None:
    for tags in (["a", "b"], ("a", "b"), np.array(["a", "b"]), iter(["a", "b"])):
        assert alpha.remember("x", tags=tags).tags == ("a", "b")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda s: s.remember("x" * (CONTENT_BYTES_MAX + 1)), "Split it into several memories"),
        (lambda s: s.recall("x" * (QUERY_BYTES_MAX + 1)), "Shorten it"),
        (
            lambda s: s.remember("x", metadata={"a": "b" * (METADATA_BYTES_MAX + 1)}),
            f"metadata as a whole has {METADATA_BYTES_MAX + 9} bytes",
        ),
        (
            lambda s: s.remember("x", metadata={"a": "b" * METADATA_BYTES_MAX, "c": 1}),
            "metadata as a whole has",
        ),
        (lambda s: s.remember("x", metadata={"k" * METADATA_BYTES_MAX: 1}), "Shorten it"),
    ],
)
def test_what_is_too_long_is_told_with_what_helps(
    alpha: engram.Space, call: Callable[[engram.Space], Any], says: str
) -> None:
    with pytest.raises(TooLarge) as caught:
        call(alpha)
    assert says in caught.value.detail


def test_a_space_open_in_this_very_process_says_so(tmp_path: Path) -> None:
    with engram.open(tmp_path / "data") as db, engram.open(tmp_path / "data") as again:
        db.create_space("alpha").remember("x")
        with pytest.raises(SpaceLocked, match="already open in this process"):
            again.space("alpha").list()
        db.close()
        assert len(again.space("alpha").list().memories) == 1


def test_ensuring_with_another_embedding_says_what_to_do(db: engram.Database) -> None:
    db.create_space("alpha")
    with pytest.raises(SpaceExists, match="Leave the embedding out to use it as it is, or choose"):
        db.ensure_space("alpha", embedding=CALLER)


def no_space_left(*arguments: object, **named: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("made", ["folder", "control", "layout"])
def test_a_data_root_on_a_full_disk_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str
) -> None:
    path = tmp_path / "data"
    if made == "folder":
        monkeypatch.setattr(Path, "mkdir", no_space_left)
    else:
        path.mkdir()
        method = {"control": "make_dir", "layout": "create"}[made]
        monkeypatch.setattr(OsDirectory, method, no_space_left)
    with pytest.raises(DiskFull, match="Free some space"):
        engram.open(path)


def test_a_space_on_a_full_disk_says_what_to_do(
    db: engram.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OsDirectory, "create", no_space_left)
    with pytest.raises(DiskFull, match="Free some space") as caught:
        db.create_space("alpha")
    assert caught.value.memory_space_id == "alpha"


@pytest.mark.parametrize("call", [lambda s: s.remember("x"), lambda s: s.recall("x")])
def test_an_embedder_that_fails_names_the_space(
    alpha: engram.Space, monkeypatch: pytest.MonkeyPatch, call: Callable[[engram.Space], Any]
) -> None:
    class Away:
        def embed(self, texts: object) -> None:
            raise EmbedderUnavailable("away")

    monkeypatch.setattr(changing, "embedder_for", lambda spec: Away())
    with pytest.raises(EmbedderUnavailable) as caught:
        call(alpha)
    assert caught.value.memory_space_id == "alpha"


def test_what_is_added_to_an_error_is_told_by_it() -> None:
    error = engram.Unavailable("the server is busy")
    error.detail += "; 3 of 5 were stored"
    assert str(error) == "the server is busy; 3 of 5 were stored"
