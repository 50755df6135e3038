"""Deliberate bugs in embedding a space anew, each caught by a check that holds without it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

import engram
from engram.embedding.registry import DEFAULT
from engram.memory.model import EmbeddingSpec
from engram.spaces import copies, reembedding
from engram.spaces.copies import Copies
from engram.spaces.staged import DIGEST_BYTES, Staged, Stages
from tests.crash.test_mutants import skip_sync_in
from tests.crash.test_reembedding import check_boot, crash_states

Patch = pytest.MonkeyPatch
CALLER = EmbeddingSpec(model="caller", dimensions=2)
MEMORIES = 7


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: Patch) -> None:
    monkeypatch.setattr(reembedding, "PIECE_MEMORIES_MAX", 3)


def filled(db: engram.Database) -> engram.Space:
    space = db.create_space("alpha", embedding=CALLER)
    for number in range(MEMORIES):
        space.remember(f"memory {number}", id=f"m{number}", embedding=[1.0, number])
    return space


class Stop(Exception):
    """Ends it half way."""


def stop_half_way(done: int, total: int) -> None:
    if done >= 3:
        raise Stop


def stages(db: engram.Database) -> list[Path]:
    return list((db.path / ".engram" / "staged").iterdir())


def no_crash_loses_what_was_embedded() -> None:
    for path, disk, process in crash_states():
        if path.endswith("lost"):
            check_boot(disk, process)


def what_is_damaged_is_embedded_again() -> None:
    with TemporaryDirectory() as root, engram.open(root) as db:
        space = filled(db)
        with pytest.raises(Stop):
            space.fork("copy", embedding=DEFAULT, progress=stop_half_way)
        (stage,) = stages(db)
        data = bytearray((stage / "vectors").read_bytes())
        data[DIGEST_BYTES + 3] ^= 0x40
        (stage / "vectors").write_bytes(data)
        copy = space.fork("copy", embedding=DEFAULT).get("m0", include_embedding=True)
        whole = space.fork("whole", embedding=DEFAULT).get("m0", include_embedding=True)
        assert np.array_equal(np.asarray(copy.embedding), np.asarray(whole.embedding))


def what_is_purged_meanwhile_is_not_in_the_copy() -> None:
    def purge(done: int, total: int) -> None:
        if done == 3 and total == MEMORIES:
            space.purge("m1")

    with TemporaryDirectory() as root, engram.open(root) as db:
        space = filled(db)
        listed = space.fork("copy", embedding=DEFAULT, progress=purge).list().memories
        assert [memory.id for memory in listed] == ["m0", "m2", "m3", "m4", "m5", "m6"]


def a_purge_leaves_nothing_staged() -> None:
    with TemporaryDirectory() as root, engram.open(root) as db:
        space = filled(db)
        with pytest.raises(Stop):
            space.fork("copy", embedding=DEFAULT, progress=stop_half_way)
        assert len(stages(db)) == 1
        space.purge("m1")
        assert stages(db) == []


def what_is_forgotten_outlives_a_compaction() -> None:
    with TemporaryDirectory() as root, engram.open(root) as db:
        space = filled(db)
        space.forget("m1")
        copy = space.fork("copy", embedding=DEFAULT)
        copy.remember("later")
        copy.compact()
        ids = {memory.id for memory in copy.list().memories}
        try:
            copy.restore("m1")
        except engram.MemoryNotFound:
            pass
        assert {memory.id for memory in copy.list().memories} - ids == {"m1"}


def says_it_is_kept_before_it_is(patch: Patch) -> None:
    class Unsynced:
        def __init__(self, file: Any) -> None:
            self._file = file

        def __getattr__(self, name: str) -> Any:
            return (lambda: None) if name == "sync_data" else getattr(self._file, name)

    real = Staged.__init__

    def begin(self: Staged, file: Any, uuid: bytes, spec: EmbeddingSpec) -> None:
        real(self, Unsynced(file), uuid, spec)

    patch.setattr(Staged, "__init__", begin)


def does_not_sync_the_names_of_a_stage(patch: Patch) -> None:
    skip_sync_in(patch, "begin")


def sweeps_away_what_could_be_gone_on_with(patch: Patch) -> None:
    patch.setattr(Stages, "_is_over", lambda *_: True)


def believes_what_is_staged(patch: Patch) -> None:
    def get(self: Staged, digest: bytes) -> Any:
        offset = self._offsets.get(digest)
        if offset is None:
            return None
        start = offset + DIGEST_BYTES
        return np.frombuffer(self._file.read_at(start, self._vector_bytes), "<f4")

    patch.setattr(Staged, "get", get)


def takes_no_notice_of_a_purge(patch: Patch) -> None:
    patch.setattr(copies, "_mark", lambda source: (0, 0))


def keeps_what_is_staged_through_a_purge(patch: Patch) -> None:
    patch.setattr(Copies, "forget", lambda self, uuid: None)


def drops_what_is_forgotten_with_the_first_compaction(patch: Patch) -> None:
    from engram.spaces.compactor import Compactor

    patch.setattr(Compactor, "_ended_to", lambda self, drop_to: drop_to)


MUTANTS: list[tuple[Callable[[Patch], None], Callable[[], None]]] = [
    (says_it_is_kept_before_it_is, no_crash_loses_what_was_embedded),
    (does_not_sync_the_names_of_a_stage, no_crash_loses_what_was_embedded),
    (sweeps_away_what_could_be_gone_on_with, no_crash_loses_what_was_embedded),
    (believes_what_is_staged, what_is_damaged_is_embedded_again),
    (takes_no_notice_of_a_purge, what_is_purged_meanwhile_is_not_in_the_copy),
    (keeps_what_is_staged_through_a_purge, a_purge_leaves_nothing_staged),
    (drops_what_is_forgotten_with_the_first_compaction, what_is_forgotten_outlives_a_compaction),
]
CHECKS = list(dict.fromkeys(check for _, check in MUTANTS))


@pytest.mark.parametrize("holds", CHECKS, ids=lambda check: check.__name__)
def test_the_check_holds_for_what_is_there(holds: Callable[[], None]) -> None:
    holds()


@pytest.mark.parametrize(
    ("mutate", "holds"), MUTANTS, ids=[mutate.__name__ for mutate, _ in MUTANTS]
)
def test_the_check_catches_a_copy_that(
    mutate: Callable[[Patch], None], holds: Callable[[], None], monkeypatch: Patch
) -> None:
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        holds()
