"""Deliberate bugs in compacting and purging, each caught by a check that holds without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

import compaction.checkpoint
import compaction.compact
import wal.log
import wal.replay
from compaction.columns import ColumnFile
from tests.crash import compactions as c
from tests.crash.histories import Budget, Seen, fresh_space
from tests.crash.test_damage import disk_of
from wal.errors import Damaged, WalError
from wal.manifest import Checkpoint, Manifest
from wal.replay import Start
from wal.sim_vfs import SimDisk
from wal.vfs import Directory

Patch = pytest.MonkeyPatch
FEW = Budget(few=6, samples=3)


def _no_crash_loses(name: str) -> None:
    seen = Seen()
    for aftermath in c.crashes(name, c.HISTORIES[name], FEW):
        if seen.is_new(aftermath):
            c.check(aftermath.disk.clone(), aftermath.books)  # type: ignore[arg-type]


def no_crash_while_compacting_loses_anything() -> None:
    _no_crash_loses("compacted over segments")


def no_crash_while_shortening_loses_anything() -> None:
    _no_crash_loses("shortened")


def no_crash_while_purging_brings_anything_back() -> None:
    _no_crash_loses("purged in a base")


def a_flipped_checkpoint_is_not_believed() -> None:
    """The log holds what it stood for: nobody sees that it was damaged, but the report."""
    disk, books = fresh_space(), c.Books()
    c.play(disk, (c.GROUP, c.Compact(), c.Append((5,))), books)
    c.check(flip(disk), books)


def a_flipped_base_refuses() -> None:
    disk, books = fresh_space(), c.Books()
    c.play(disk, (c.GROUP, c.GROUP, c.GROUP, c.Compact(0), c.Append((5,))), books)
    with pytest.raises(Damaged, match="checkpoints/"):
        c.open_machine(flip(disk))


def a_checkpoint_that_the_disk_garbles_is_never_named() -> None:
    disk, books = fresh_space(), c.Books()
    c.play(disk, (c.GROUP, c.Append((5,))), books)
    log, machine = c.open_machine(disk)
    real = compaction.checkpoint.write_columns

    def garbled(file: Any, *args: Any) -> tuple[int, int]:
        written = real(file, *args)
        byte = file.read_at(4_096, 1)[0]
        file.write_at(4_096, bytes([byte ^ 1]))
        return written

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction.checkpoint, "write_columns", garbled)
        with pytest.raises(Damaged):
            c.compact(disk, log, machine)
    assert log.checkpoints == ()
    log.close()
    c.check(disk, books)


def flip(disk: SimDisk) -> SimDisk:
    """The disk with one bit of the newest checkpoint turned."""
    contents = disk.contents()
    folder = contents["space"]["checkpoints"]  # type: ignore[index,call-overload]
    name = max(folder)
    data = bytearray(folder[name])
    data[4_096] ^= 1
    folder[name] = bytes(data)
    return disk_of(contents["space"])  # type: ignore[arg-type]


def does_not_read_back_what_it_wrote(patch: Patch) -> None:
    patch.setattr(ColumnFile, "verify", lambda self: None)


def removes_what_is_retired_before_the_manifest_says_so(patch: Patch) -> None:
    real = wal.log.Log._publish

    def publish(self: wal.log.Log) -> None:
        wal.log.remove_retired(self._space_dir, self._log_dir, self._retired)
        real(self)

    patch.setattr(wal.log.Log, "_publish", publish)


def never_removes_what_is_retired(patch: Patch) -> None:
    patch.setattr(wal.log, "remove_retired", lambda *args: None)
    patch.setattr(wal.replay, "leftovers_of", lambda *args: [])


def forgets_what_it_retired(patch: Patch) -> None:
    """A crash between the manifest and the removal then leaves files that nothing accounts for."""
    real = wal.log.publish_manifest

    def publish(space_dir: Directory, manifest: Manifest) -> None:
        real(space_dir, msgspec.structs.replace(manifest, retired=()))

    patch.setattr(wal.log, "publish_manifest", publish)


def names_a_checkpoint_that_is_not_synced(patch: Patch) -> None:
    real_columns = compaction.checkpoint.write_columns
    real_checkpoint = compaction.compact.write_checkpoint

    def write(*args: Any, **options: Any) -> Checkpoint:
        with pytest.MonkeyPatch.context() as within:

            def columns(file: Any, *rest: Any) -> tuple[int, int]:
                within.setattr(type(file), "sync_data", lambda self: None)
                return real_columns(file, *rest)

            within.setattr(compaction.checkpoint, "write_columns", columns)
            return real_checkpoint(*args, **options)

    patch.setattr(compaction.compact, "write_checkpoint", write)


def does_not_sync_a_checkpoint_s_name(patch: Patch) -> None:
    real_checkpoint = compaction.compact.write_checkpoint

    def write(space_dir: Any, *args: Any, **options: Any) -> Checkpoint:
        with pytest.MonkeyPatch.context() as within:
            within.setattr(type(space_dir), "sync", lambda self: None)
            return real_checkpoint(space_dir, *args, **options)

    patch.setattr(compaction.compact, "write_checkpoint", write)


def believes_a_checkpoint_without_verifying_it(patch: Patch) -> None:
    patch.setattr(ColumnFile, "_verify", lambda self, start, stop: None)


def does_without_a_base_that_is_broken(patch: Patch) -> None:
    real = c.begin_with_newest

    def begin(space_dir: Any, manifest: Manifest, *args: Any) -> Start:
        try:
            return real(space_dir, manifest, *args)
        except Damaged:
            return Start(manifest.base_position)

    patch.setattr(c, "begin_with_newest", begin)


def gives_copies_the_ids_of_segments(patch: Patch) -> None:
    patch.setattr(wal.log.Log, "reserve_segment_id", lambda self: self._segment_id_max + 1)


def lets_history_go_without_a_base(patch: Patch) -> None:
    real = compaction.compact._named

    def named(drop_to: int, *checkpoints: Checkpoint) -> Sequence[Checkpoint]:
        return [each for each in real(drop_to, *checkpoints) if not each.base]

    patch.setattr(compaction.compact, "_named", named)
    patch.setattr(wal.log, "plan_change", _unchecked(wal.log.plan_change))


def _unchecked(real: Callable[..., Any]) -> Callable[..., Any]:
    def plan(sealed: Any, checkpoints: Any, change: Any) -> Any:
        try:
            return real(sealed, checkpoints, change)
        except ValueError:
            kept = [each for each in sealed if each[1].next_position > change.drop_to + 1]
            gone = [f"log/{each[1].name}" for each in sealed if each not in kept]
            return wal.live_set.Changed(tuple(kept), tuple(gone))

    return plan


def replays_from_the_start_behind_a_checkpoint(patch: Patch) -> None:
    """Everything a checkpoint holds is applied twice."""
    real = c.begin_with_newest

    def begin(*args: Any) -> Start:
        return real(*args)._replace(position=0)

    patch.setattr(c, "begin_with_newest", begin)


def takes_a_rewritten_segment_that_no_manifest_names(patch: Patch) -> None:
    patch.setattr(
        wal.replay,
        "leftovers_of",
        lambda manifest, headers: [name for name in headers if f"log/{name}" in manifest.retired],
    )


MUTANTS: list[tuple[Callable[[Patch], None], Callable[[], None]]] = [
    (
        removes_what_is_retired_before_the_manifest_says_so,
        no_crash_while_shortening_loses_anything,
    ),
    (never_removes_what_is_retired, no_crash_while_shortening_loses_anything),
    (forgets_what_it_retired, no_crash_while_shortening_loses_anything),
    (names_a_checkpoint_that_is_not_synced, no_crash_while_shortening_loses_anything),
    (does_not_sync_a_checkpoint_s_name, no_crash_while_shortening_loses_anything),
    (believes_a_checkpoint_without_verifying_it, a_flipped_checkpoint_is_not_believed),
    (believes_a_checkpoint_without_verifying_it, a_flipped_base_refuses),
    (does_not_read_back_what_it_wrote, a_checkpoint_that_the_disk_garbles_is_never_named),
    (does_without_a_base_that_is_broken, a_flipped_base_refuses),
    (gives_copies_the_ids_of_segments, no_crash_while_purging_brings_anything_back),
    (lets_history_go_without_a_base, no_crash_while_shortening_loses_anything),
    (replays_from_the_start_behind_a_checkpoint, no_crash_while_compacting_loses_anything),
    (
        takes_a_rewritten_segment_that_no_manifest_names,
        no_crash_while_purging_brings_anything_back,
    ),
]
CHECKS = list(dict.fromkeys(check for _, check in MUTANTS))
CAUGHT = (AssertionError, WalError, KeyError, pytest.fail.Exception)


@pytest.mark.parametrize("holds", CHECKS, ids=lambda check: check.__name__)
def test_the_check_holds_for_compaction_as_it_is(holds: Callable[[], None]) -> None:
    holds()


@pytest.mark.parametrize(
    ("mutate", "holds"), MUTANTS, ids=[mutate.__name__ for mutate, _ in MUTANTS]
)
def test_the_check_catches_a_compaction_that(
    mutate: Callable[[Patch], None], holds: Callable[[], None], monkeypatch: Patch
) -> None:
    mutate(monkeypatch)
    with pytest.raises(CAUGHT):
        holds()
