"""Every length that a manifest or a checkpoint can be cut to, and every bit of them flipped, in a
log that was closed cleanly.

Either opening refuses, names the file, and has changed nothing; or, where the file is a checkpoint
that the log can do without, it is set aside and the log replayed, and nothing is lost. Inspecting
has to find the same.

Whether a changed checkpoint is noticed at all is asked for each of its bits. All of opening is gone
through for each bit of what describes the file, and for a sample of what it holds, since that costs
fifty times as much and is one way for all blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pytest

from compaction.checkpoint import open_checkpoint
from compaction.columns import PAGE_BYTES, ColumnFile
from tests.crash.compactions import Append, Books, Compact, History, open_machine, play
from tests.crash.histories import SPACE, UUID, fresh_space
from tests.crash.test_damage import disk_of, folder
from wal.errors import Damaged, Unsupported, WalError
from wal.inspect import Check, Damage, inspect_log
from wal.manifest import Checkpoint, Manifest
from wal.replay import read_manifest
from wal.sim_vfs import Contents
from wal.vfs import Directory

HISTORIES: dict[str, History] = {
    "checkpoint": (Append((30, 12)), Compact(), Append((9,))),
    "base": (Append((30, 12)), Append((5,)), Compact(0), Append((9,))),
    "base and checkpoint": (
        *(Append((30,)), Compact(0), Append((9,)), Compact()),
        *(Append((3,)), Compact(), Append((1,))),
    ),
}
SAMPLED: int = 257
"""Of what a checkpoint holds, each so manieth byte goes through all of opening."""


class Closed(NamedTuple):
    """A log that was closed cleanly: its files, its manifest, and what opening replays."""

    contents: Contents
    manifest: Manifest
    crcs: list[int]

    def of(self, name: str) -> bytes:
        data = self.contents.get(name) or folder(self.contents, "checkpoints").get(name)
        assert isinstance(data, bytes)
        return data

    def with_file(self, name: str, data: bytes) -> Contents:
        if name in self.contents:
            return {**self.contents, name: data}
        checkpoints = {**folder(self.contents, "checkpoints"), name: data}
        return {**self.contents, "checkpoints": checkpoints}


def closed(history: History) -> Closed:
    disk = fresh_space()
    play(disk, history, Books())
    contents = folder(disk.contents())
    contents.pop("LOCK", None)
    manifest = read_manifest(disk_of(contents).root().open_dir(SPACE))
    log, machine = open_machine(disk_of(contents))
    log.close()
    return Closed(contents, manifest, machine.crcs)


LOGS = {name: closed(history) for name, history in HISTORIES.items()}
EACH = pytest.mark.parametrize("log", LOGS.values(), ids=LOGS)


class Blocks(Check):
    """Every block of every checkpoint that the manifest names."""

    def begin(self, space_dir: Directory, manifest: Manifest) -> Iterator[Damage]:
        for checkpoint in manifest.checkpoints:
            try:
                open_checkpoint(space_dir, checkpoint, UUID).verify()
            except Damaged as error:
                yield Damage(error.file, error.offset, error.reason)


class Verdict(NamedTuple):
    """What opening did, and the files in which inspecting found damage (None: a newer format)."""

    error: WalError | None
    unusable: tuple[str, ...]
    damaged: set[str] | None


def verdict_on(log: Closed, contents: Contents) -> Verdict:
    disk = disk_of(contents)
    damaged: set[str] | None = None
    try:
        report = inspect_log(disk.root().open_dir(SPACE), UUID, Blocks)
        damaged = {damage.file for damage in report.damage}
    except Unsupported:
        pass
    assert folder(disk.contents()) == contents, "inspecting changed something"
    try:
        opened, machine = open_machine(disk)
    except (Damaged, Unsupported) as error:
        after = folder(disk.contents())
        after.pop("LOCK")
        assert after == contents, "opening refused, but changed something"
        return Verdict(error, (), damaged)
    unusable = opened.opened.unusable_checkpoints
    opened.close()
    assert machine.crcs == log.crcs, "something else than was written was served"
    again, machine = open_machine(disk)
    again.close()
    assert machine.crcs == log.crcs
    assert again.opened.unusable_checkpoints == ()
    return Verdict(None, unusable, damaged)


def flipped(data: bytes, places: Iterable[int]) -> Iterator[tuple[str, bytes]]:
    for at in places:
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            yield f"bit {bit} of byte {at}", bytes(changed)


def cut(data: bytes, lengths: Iterable[int]) -> Iterator[tuple[str, bytes]]:
    for length in lengths:
        yield f"cut to {length}", data[:length]


def grown(data: bytes) -> Iterator[tuple[str, bytes]]:
    for more in (b"\0", b"\n", bytes(64), data):
        yield f"{len(more)} bytes behind it", data + more


@EACH
def test_undamaged_logs_open_and_hold_what_the_damage_needs(log: Closed) -> None:
    assert verdict_on(log, log.contents) == Verdict(None, (), set())
    assert log.manifest.checkpoints
    assert len(log.of(log.manifest.name)) < 3_000
    assert all(each.length < 3 * PAGE_BYTES + 400 for each in log.manifest.checkpoints)


@EACH
def test_every_bit_and_every_length_of_a_manifest_refuses(log: Closed) -> None:
    name = log.manifest.name
    data = log.of(name)
    everything = [*flipped(data, range(len(data))), *cut(data, range(len(data))), *grown(data)]
    for what, changed in everything:
        verdict = verdict_on(log, log.with_file(name, changed))
        assert isinstance(verdict.error, Damaged | Unsupported), what
        if isinstance(verdict.error, Damaged):
            assert verdict.error.file == name, what
            assert verdict.damaged == {name}, what
        else:
            assert verdict.damaged is None, what


def checkpoints() -> Iterator[object]:
    for name, log in LOGS.items():
        for checkpoint in log.manifest.checkpoints:
            kind = "base" if checkpoint.base else "other"
            yield pytest.param(log, checkpoint, id=f"{name}, {kind} at {checkpoint.position}")


ALL = pytest.mark.parametrize(("log", "checkpoint"), list(checkpoints()))


@pytest.mark.parametrize("name", ["checkpoint", "base"])
def test_every_bit_and_every_length_of_a_checkpoint_is_noticed(name: str) -> None:
    log = LOGS[name]
    (checkpoint,) = log.manifest.checkpoints
    data = bytearray(log.of(checkpoint.name))
    view = memoryview(data)

    def read(length: int) -> None:
        ColumnFile(checkpoint.name, view[:length], UUID).verify()

    read(len(data))
    for at in range(len(data)):
        for bit in range(8):
            data[at] ^= 1 << bit
            with pytest.raises((Damaged, Unsupported)):
                read(len(data))
            data[at] ^= 1 << bit
    for length in range(len(data)):
        with pytest.raises(Damaged):
            read(length)
    read(len(data))


def described(checkpoint: Checkpoint) -> list[int]:
    """The bytes of a checkpoint that all of opening is gone through for."""
    end = checkpoint.length - checkpoint.length % PAGE_BYTES
    return [
        *range(64),
        *range(64, PAGE_BYTES - 4, SAMPLED),
        *range(PAGE_BYTES - 4, PAGE_BYTES),
        *range(PAGE_BYTES, end, SAMPLED),
        *range(end, checkpoint.length),
    ]


@ALL
def test_a_damaged_checkpoint_refuses_or_is_replayed(log: Closed, checkpoint: Checkpoint) -> None:
    name, data = checkpoint.name, log.of(checkpoint.name)
    newest = checkpoint == log.manifest.checkpoints[-1]
    lengths = [*range(0, len(data), SAMPLED), *range(len(data) - 70, len(data))]
    changes = [*flipped(data, described(checkpoint)), *cut(data, lengths), *grown(data)]
    for what, changed in changes:
        verdict = verdict_on(log, log.with_file(name, changed))
        if verdict.damaged is not None:
            assert verdict.damaged == {f"checkpoints/{name}"}, what
        if not newest:
            # A newer one stands for all that it does: only who inspects looks at it.
            assert (verdict.error, verdict.unusable) == (None, ()), what
        elif checkpoint.base:
            assert isinstance(verdict.error, Damaged | Unsupported), what
        else:
            assert (verdict.error, verdict.unusable) == (None, (name,)), what


@EACH
def test_a_checkpoint_that_is_gone_refuses_or_is_replayed(log: Closed) -> None:
    for checkpoint in log.manifest.checkpoints:
        left = {**folder(log.contents, "checkpoints")}
        left.pop(checkpoint.name)
        verdict = verdict_on(log, {**log.contents, "checkpoints": left})
        assert verdict.damaged == {f"checkpoints/{checkpoint.name}"}
        newest = checkpoint == log.manifest.checkpoints[-1]
        assert (verdict.error is not None) == (newest and checkpoint.base)
