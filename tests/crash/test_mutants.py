"""Durability bugs, planted one at a time: each must be caught by the check it names.

A crash suite that has never failed proves nothing. A mutant patches one thing that the log or the
space relies on; its check, which is one of the properties the other modules of this package test,
has to fail with it and to hold without it.
"""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

import wal.codec
import wal.commit
import wal.inspect
import wal.log
import wal.reader
import wal.replay
import wal.segment
from engram.errors import EngramError, MemoryNotFound
from engram.memory import state
from engram.memory.decide import Forget
from engram.memory.events import Event, MemoryForgotten, MemoryRevised
from engram.memory.model import Changes
from engram.memory.payload import Batch, encode_batch
from engram.spaces import machine
from tests.crash import test_damage as damage
from tests.crash import test_failing_calls as failing
from tests.crash import test_group_commit as group
from tests.crash import test_log_crashes as crashes
from tests.crash import test_space_creation as creation
from tests.crash.histories import (
    HISTORIES,
    Books,
    Budget,
    check,
    draft,
    fresh_space,
    open_log,
    recover,
)
from wal import format as f
from wal.codec import Bad, End, Record, SegmentHeader
from wal.errors import Damaged, DiskFull, Poisoned, WalError
from wal.log import Log
from wal.manifest import Manifest, decode_manifest, encode_manifest, manifest_number
from wal.recovery import Plan, Refuse, SetAside, TailSeen, plan_tail
from wal.segment import Chain
from wal.sim_vfs import SimDirectory, SimDisk, SimFile, lose_everything
from wal.vfs import Directory, File

Patch = pytest.MonkeyPatch
FEW = Budget(few=12, samples=4)


def no_crash_loses_anything() -> None:
    for name in ("segments", "several writes to one sync"):
        crashes.crash_everywhere(name, HISTORIES[name], FEW, None)


def no_crash_in_recovery_loses_anything() -> None:
    name = "records larger than an allocation"
    crashes.crash_everywhere(name, HISTORIES[name], FEW, Budget(few=4, samples=1))


def torn_bytes_are_kept() -> None:
    crashes.check_torn_bytes_are_kept("groups")


def no_crash_leaves_half_a_space() -> None:
    creation.test_a_crash_leaves_a_whole_space_or_none(creation.empty_disk)


def nobody_hears_too_early() -> None:
    group.test_no_caller_hears_of_success_before_the_disk_has_it()


def a_failed_sync_is_final() -> None:
    group.test_a_failed_sync_is_unknown_to_all_its_waiters_and_never_retried()


def a_poisoned_log_takes_nothing() -> None:
    failing.test_an_error_that_leaves_the_disk_unknown_stops_all_writing("sync_data")


def what_is_served_after_a_failed_sync_is_on_the_disk() -> None:
    disk, books = fresh_space(), Books()
    log = open_log(disk)
    disk.fail("sync_data", 1, errno.EIO)
    books.submitted.append(draft(1, 500))
    log.append(books.submitted[1:])
    with pytest.raises(Poisoned):
        log.sync()
    log.close()
    check(disk, books)


def a_full_disk_leaves_nothing_of_the_group() -> None:
    disk = fresh_space()
    log = open_log(disk)
    disk.short_writes(100)
    disk.fail("write_at", 3, errno.ENOSPC)
    refused = [draft(1, 20), draft(2, 900)]
    with pytest.raises(DiskFull):
        log.append(refused)
    for found in (disk.clone(), disk.crash(lose_everything())):
        assert len(recover(found)[1]) == 1


def flips_are_found() -> None:
    whole = damage.Whole(closed=False)
    for place in whole.places[-5:]:
        data = whole.log_files[place.file]
        for at, new in damage.flips(data, place.start, place.end):
            damage.check_change(whole, place.file, at, new)


def another_incarnation_s_records_stay_out() -> None:
    damage.test_records_of_another_incarnation_do_not_replay(damage.Whole(closed=True))


def a_broken_manifest_refuses() -> None:
    whole = damage.Whole(closed=True)
    damage.test_a_newer_manifest_that_is_broken_is_no_reason_to_use_the_older(whole)


def two_pasts_do_not_mix() -> None:
    damage.test_records_of_two_pasts_of_one_segment_do_not_mix()


def open_space(disk: SimDisk) -> tuple[Any, Any]:
    registry = creation.new_registry(disk)
    return registry, registry.ensure("s", creation.SPEC)[0]


def what_is_forgotten_stays_forgotten() -> None:
    disk = SimDisk()
    registry, space = open_space(disk)
    space.remember("a secret", id="m", embedding=[1.0, 0.0])
    space.forget("m")
    registry.close()
    registry, space = open_space(disk)
    with pytest.raises(MemoryNotFound):
        space.get("m")
    registry.close()


def the_last_revision_counts() -> None:
    disk = SimDisk()
    registry, space = open_space(disk)
    space.remember("first", id="m", embedding=[1.0, 0.0])
    space.revise("m", Changes(content="second", embedding=[0.0, 1.0]))
    registry.close()
    registry, space = open_space(disk)
    assert space.get("m").content == "second"
    registry.close()


def a_memory_is_forgotten_once_only() -> None:
    """Two requests for it in one group: the second rests on the first."""
    registry, space = open_space(SimDisk())
    try:
        space.remember("here", id="m", embedding=[1.0, 0.0])
        held = space._store()
        gate = threading.Event()
        decide = machine.decide

        def gated(known: Any, command: Any, memory_space_id: str) -> Batch:
            gate.wait()
            return decide(known, command, memory_space_id)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(machine, "decide", gated)
            tickets = [held._committer.submit(machine.Timed(Forget("m", 0), 0)) for _ in range(2)]
            gate.set()
            assert tickets[0].result().ack.events == 1
            with pytest.raises(MemoryNotFound):
                tickets[1].result()
    finally:
        registry.close()


# The mutants. Their names say what is wrong with them.


def acknowledges_one_sync_early(patch: Patch) -> None:
    real = Log.sync

    def sync(self: Log) -> None:
        staged, seek = self._staged, tuple(self._seek)
        previous = getattr(self, "_owed", None)
        if previous is not None:
            real(self)
        self._owed = True  # type: ignore[attr-defined]
        self._durable = wal.reader.Durable(self._durable.sealed, self._durable.active, seek, staged)

    patch.setattr(Log, "sync", sync)


def skips_fdatasync(patch: Patch) -> None:
    patch.setattr(Log, "_sync_file", lambda self: None)


def publishes_before_the_sync(patch: Patch) -> None:
    real = Log._sync_file

    def sync_file(self: Log) -> None:
        durable = self._durable
        self._durable = wal.reader.Durable(
            durable.sealed, durable.active, tuple(self._seek), self._staged
        )
        real(self)

    patch.setattr(Log, "_sync_file", sync_file)


def applies_before_the_sync(patch: Patch) -> None:
    real = wal.commit.GroupCommitter._commit_group

    def commit_group(self: Any) -> None:
        owed: list[None] = []
        with pytest.MonkeyPatch.context() as inner:
            sync = self._log.sync
            inner.setattr(self._log, "sync", lambda: owed.append(None))
            real(self)
        if owed:
            sync()

    patch.setattr(wal.commit.GroupCommitter, "_commit_group", commit_group)


def retries_a_failed_sync(patch: Patch) -> None:
    def sync_file(self: Log) -> None:
        try:
            self._file.sync_data()
        except OSError:
            self._file.sync_data()

    patch.setattr(Log, "_sync_file", sync_file)


def ignores_the_poison(patch: Patch) -> None:
    patch.setattr(Log, "_check", lambda self: None)


def does_not_cut_back_after_a_full_disk(patch: Patch) -> None:
    def guarded(self: Log, effect: Callable[[], None]) -> None:
        try:
            effect()
        except OSError as error:
            raise DiskFull("no room") from error

    patch.setattr(Log, "_guarded", guarded)


def does_not_sync_a_new_segment_s_name(patch: Patch) -> None:
    def publish(log_dir: Directory, header: SegmentHeader) -> None:
        log_dir.rename(header.name + ".tmp", log_dir, header.name)

    patch.setattr(wal.log, "publish_segment", publish)


def does_not_sync_a_new_segment_s_header(patch: Patch) -> None:
    def prepare(log_dir: Directory, header: SegmentHeader, records: bytes = b"") -> File:
        name = header.name + ".tmp"
        if log_dir.exists(name):
            log_dir.remove(name)
        file = log_dir.create(name)
        wal.segment.write_all(file, 0, wal.codec.encode_segment_header(header) + records)
        return file

    patch.setattr(wal.log, "prepare_segment", prepare)


def publish_manifest_as(order: Sequence[str]) -> Callable[[Directory, Manifest], None]:
    def publish(space_dir: Directory, manifest: Manifest) -> None:
        temporary = manifest.name + ".tmp"
        if space_dir.exists(temporary):
            space_dir.remove(temporary)
        file = space_dir.create(temporary)
        wal.segment.write_all(file, 0, encode_manifest(manifest))
        for step in order:
            match step:
                case "sync file":
                    file.sync_data()
                case "rename":
                    space_dir.rename(temporary, space_dir, manifest.name)
                case "sync names":
                    space_dir.sync()
                case "remove older":
                    for name in space_dir.names():
                        if (manifest_number(name) or manifest.number) < manifest.number:
                            space_dir.remove(name)

    return publish


def renames_a_manifest_before_its_content_is_synced(patch: Patch) -> None:
    order = ("rename", "sync names", "remove older", "sync file")
    patch.setattr(wal.log, "publish_manifest", publish_manifest_as(order))


def removes_the_old_manifest_before_the_new_one_is_durable(patch: Patch) -> None:
    order = ("sync file", "rename", "remove older", "sync names")
    patch.setattr(wal.log, "publish_manifest", publish_manifest_as(order))


def never_syncs_a_manifest(patch: Patch) -> None:
    order = ("rename", "sync names", "remove older")
    patch.setattr(wal.log, "publish_manifest", publish_manifest_as(order))


def skip_sync_in(patch: Patch, function: str) -> None:
    """Let directory syncs that the function of this name asks for do nothing."""
    real = SimDirectory.sync

    def sync(self: SimDirectory) -> None:
        if sys._getframe(1).f_code.co_name != function:
            real(self)

    patch.setattr(SimDirectory, "sync", sync)


def recovery_trusts_names_the_disk_may_not_have(patch: Patch) -> None:
    skip_sync_in(patch, "_take_over")


def does_not_sync_the_parent_of_a_new_space(patch: Patch) -> None:
    skip_sync_in(patch, "build_space")


def opens_a_space_whose_name_may_not_be_durable(patch: Patch) -> None:
    skip_sync_in(patch, "open_in_place")


def lays_a_root_out_without_syncing_its_folders_first(patch: Patch) -> None:
    skip_sync_in(patch, "_write_layout")


def recovery_believes_the_page_cache(patch: Patch) -> None:
    patch.setattr(SimFile, "drop_cache", lambda self: None)


def truncates_a_torn_tail_before_it_is_kept(patch: Patch) -> None:
    def keep(quarantine: Directory, stem: str, data: bytes) -> str:
        wal.segment.write_all(quarantine.create(stem), 0, data)
        return stem

    patch.setattr(wal.replay, "keep_aside", keep)


def reuses_the_place_of_a_torn_tail_without_truncating(patch: Patch) -> None:
    def set_aside(space_dir: Directory, live: Any, plan: SetAside) -> str:
        return "kept elsewhere"

    patch.setattr(wal.log, "set_aside_tail", set_aside)


def cuts_off_whatever_is_damaged(patch: Patch) -> None:
    def plan(seen: TailSeen) -> Plan:
        made = plan_tail(seen)
        return SetAside(made.offset, made.reason) if isinstance(made, Refuse) else made

    patch.setattr(wal.replay, "plan_tail", plan)


def takes_a_header_without_its_checksum(patch: Patch) -> None:
    real = wal.codec.decode_record

    def decode(view: memoryview, offset: int, seed: int) -> Record | End | Bad:
        header = bytearray(view[offset : offset + f.RECORD_HEADER_BYTES])
        if len(header) < f.RECORD_HEADER_BYTES or header[:4] != f.RECORD_MAGIC:
            return real(view, offset, seed)
        fields = list(f.RECORD_HEADER.unpack(header))
        length, body = fields[1], offset + f.RECORD_HEADER_BYTES
        end = body + f.padded(length)
        if end > len(view):
            return Bad(offset, "the file ends inside a record")
        stored = fields[11]
        rotated = (stored - f.MASK_DELTA) & 0xFFFFFFFF
        crc = ((rotated << 15) | (rotated >> 17)) & 0xFFFFFFFF
        if fields[12] != f.mask(wal.codec.crc32c(view[body : body + length], crc)):
            return Bad(offset, "a payload's checksum does not match")
        return Record(
            *(fields[2], fields[6], fields[3], fields[4], fields[8], fields[9], fields[7]),
            *(fields[10], fields[5], fields[12], offset, end, view[body : body + length]),
        )

    patch.setattr(wal.segment, "decode_record", decode)


def scan_without(*what: str) -> Callable[..., Any]:
    def scan(view: memoryview, header: SegmentHeader, chain: Chain) -> Any:
        position, prev_crc, _, _, offset = chain
        while True:
            found = wal.codec.decode_record(view, offset, header.seed)
            if isinstance(found, Record) and (
                ("position" not in what and found.position != position)
                or ("prev_crc" not in what and found.prev_crc != prev_crc)
            ):
                found = Bad(offset, "does not continue")
            yield found
            if not isinstance(found, Record):
                return
            position, prev_crc, offset = found.next_position, found.payload_crc, found.end

    return scan


def forgets_the_chain_of_checksums(patch: Patch) -> None:
    patch.setattr(wal.replay, "scan", scan_without("prev_crc"))
    patch.setattr(wal.reader, "scan", scan_without("prev_crc"))


def forgets_the_seed(patch: Patch) -> None:
    patch.setattr(SegmentHeader, "seed", property(lambda self: 0))


def falls_back_to_an_older_manifest(patch: Patch) -> None:
    def read(space_dir: Directory) -> Manifest:
        names = [n for n in space_dir.names() if manifest_number(n) is not None]
        for name in sorted(names, key=lambda n: -(manifest_number(n) or 0)):
            file = space_dir.open(name)
            try:
                return decode_manifest(name, file.read_at(0, file.size()))
            except Damaged:
                continue
        raise Damaged("MANIFEST", 0, "none")

    patch.setattr(wal.replay, "read_manifest", read)
    patch.setattr(wal.inspect, "read_manifest", read)


def does_not_log_that_something_was_forgotten(patch: Patch) -> None:
    def encode(batch: Batch) -> list[bytes]:
        kept = [event for event in batch.events if not isinstance(event, MemoryForgotten)]
        return encode_batch(Batch(kept, batch.vectors))

    patch.setattr(machine, "encode_batch", encode)


def lets_the_first_revision_win_at_replay(patch: Patch) -> None:
    real = state.State._apply

    def apply(self: state.State, event: Event, position: int, time_us: int) -> None:
        if isinstance(event, MemoryRevised):
            row = self._living_row(event.id)
            old = self._versions[row] if row is not None and row < len(self._versions) else event
            fields = {**msgspec.structs.asdict(event), "content": old.content}
            event = MemoryRevised(**fields)
        real(self, event, position, time_us)

    patch.setattr(state.State, "_apply", apply)


def decides_without_what_is_queued(patch: Patch) -> None:
    patch.setattr(machine.Machine, "_overlay_batch", lambda self, batch, ack: None)


MUTANTS: list[tuple[Callable[[Patch], None], Callable[[], None]]] = [
    (acknowledges_one_sync_early, nobody_hears_too_early),
    (skips_fdatasync, no_crash_loses_anything),
    (publishes_before_the_sync, a_poisoned_log_takes_nothing),
    (applies_before_the_sync, nobody_hears_too_early),
    (retries_a_failed_sync, a_failed_sync_is_final),
    (ignores_the_poison, a_poisoned_log_takes_nothing),
    (does_not_cut_back_after_a_full_disk, a_full_disk_leaves_nothing_of_the_group),
    (does_not_sync_a_new_segment_s_name, no_crash_loses_anything),
    (does_not_sync_a_new_segment_s_header, no_crash_loses_anything),
    (renames_a_manifest_before_its_content_is_synced, no_crash_loses_anything),
    (removes_the_old_manifest_before_the_new_one_is_durable, no_crash_loses_anything),
    (never_syncs_a_manifest, no_crash_loses_anything),
    (recovery_trusts_names_the_disk_may_not_have, no_crash_loses_anything),
    (does_not_sync_the_parent_of_a_new_space, no_crash_leaves_half_a_space),
    (opens_a_space_whose_name_may_not_be_durable, no_crash_leaves_half_a_space),
    (lays_a_root_out_without_syncing_its_folders_first, no_crash_leaves_half_a_space),
    (recovery_believes_the_page_cache, what_is_served_after_a_failed_sync_is_on_the_disk),
    (truncates_a_torn_tail_before_it_is_kept, torn_bytes_are_kept),
    (reuses_the_place_of_a_torn_tail_without_truncating, no_crash_in_recovery_loses_anything),
    (cuts_off_whatever_is_damaged, flips_are_found),
    (takes_a_header_without_its_checksum, flips_are_found),
    (forgets_the_chain_of_checksums, two_pasts_do_not_mix),
    (forgets_the_seed, another_incarnation_s_records_stay_out),
    (falls_back_to_an_older_manifest, a_broken_manifest_refuses),
    (does_not_log_that_something_was_forgotten, what_is_forgotten_stays_forgotten),
    (lets_the_first_revision_win_at_replay, the_last_revision_counts),
    (decides_without_what_is_queued, a_memory_is_forgotten_once_only),
]
CHECKS = list(dict.fromkeys(check for _, check in MUTANTS))
CAUGHT = (AssertionError, WalError, EngramError, pytest.fail.Exception)


@pytest.mark.parametrize("holds", CHECKS, ids=lambda check: check.__name__)
def test_the_check_holds_for_the_log_as_it_is(holds: Callable[[], None]) -> None:
    holds()


@pytest.mark.parametrize(
    ("mutate", "holds"), MUTANTS, ids=[mutate.__name__ for mutate, _ in MUTANTS]
)
def test_the_check_catches_a_log_that(
    mutate: Callable[[Patch], None], holds: Callable[[], None], monkeypatch: Patch
) -> None:
    mutate(monkeypatch)
    with pytest.raises(CAUGHT):
        holds()
