"""Bytes that change on their own: found and named, or beyond any promise; never served, never
made worse.

Three outcomes are right: everything is there; a prefix is there that holds all that anything left
on the disk proves to have been synced; or opening refuses, names file and byte, and has changed
nothing. Which of them, is computed from where the bytes were changed. In every case
:func:`wal.inspect.inspect_log` has to come to the same verdict as opening does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

import msgspec
import pytest

from engram.errors import EngramError, SpaceDamaged
from engram.memory.model import EmbeddingSpec
from engram.spaces.registry import Registry
from tests.crash.histories import (
    SPACE,
    UUID,
    Books,
    History,
    appends,
    draft,
    joined,
    make_space,
    new_nonce,
    open_log,
    play,
    recover,
)
from wal import format as f
from wal.codec import (
    Bad,
    Record,
    SegmentHeader,
    decode_record,
    decode_segment_header,
    encode_segment_header,
)
from wal.errors import Damaged, Unsupported, WalError
from wal.inspect import LogReport, inspect_log
from wal.manifest import decode_manifest, encode_manifest
from wal.opened import LogOptions
from wal.segment import Chain, scan
from wal.sim_medium import DirNode, FileNode, Medium, Node
from wal.sim_vfs import Contents, SimDisk, lose_everything
from wal.watermark import WATERMARK_NAME, read_watermark

# Each group fills a segment, so that there are several small ones.
TINY = LogOptions(segment_bytes=4_300, allocate_bytes_min=1_024, allocate_bytes_max=4_096)
HISTORY: History = appends(40, 9, 130) + appends(200) + appends(0, 77) + appends(100, 80)
ACTIVE: History = (*appends(30), *appends(25, 12), *appends(3), *appends(18, 7))


class Place(NamedTuple):
    """A record of the undamaged log: in which file, from where to where, and what it says."""

    file: str
    start: int
    end: int
    position: int
    synced_position: int


class Whole:
    """An undamaged log: its files, and what is in them."""

    def __init__(self, *, closed: bool, salt: bytes = b"", uuid: bytes = UUID) -> None:
        disk = SimDisk()
        make_space(disk, uuid=uuid, salt=salt)
        self.uuid = uuid
        books = Books()
        if uuid == UUID:
            play(disk, HISTORY, books, TINY, new_nonce(salt))
            log = open_log(disk, options=TINY._replace(segment_bytes=1 << 20))
            for step in ACTIVE[::2]:
                first = len(books.submitted)
                drafts = [draft(first + i, size) for i, size in enumerate(step.sizes)]  # type: ignore[union-attr]
                books.submitted += drafts
                log.append(drafts)
                log.sync()
            if closed:
                log.close()
            else:
                disk = disk.crash(lose_everything())
        self.contents: Contents = folder(disk.contents())
        self.contents.pop("LOCK", None)
        space_dir = disk_of(self.contents).root().open_dir(SPACE)
        self.watermark = read_watermark(space_dir, uuid).position
        self.places = list(_places(self.log_files))
        self.facts = [] if uuid != UUID else recover(disk_of(self.contents))[1]

    @property
    def log_files(self) -> dict[str, bytes]:
        return log_files(self.contents)

    @property
    def names(self) -> list[str]:
        return sorted(self.log_files)

    @property
    def active(self) -> str:
        return self.names[-1]

    @property
    def manifest(self) -> str:
        return next(name for name in self.contents if name.startswith("MANIFEST"))


def folder(contents: Contents, name: str = SPACE) -> Contents:
    inner = contents[name]
    assert isinstance(inner, dict)
    return inner


def log_files(contents: Contents) -> dict[str, bytes]:
    return {n: data for n, data in folder(contents, "log").items() if isinstance(data, bytes)}


def _places(files: dict[str, bytes]) -> Iterator[Place]:
    for name, data in sorted(files.items()):
        header = decode_segment_header(data)
        assert not isinstance(header, Bad)
        chain = Chain.start(header, time_ns=0, synced_position=0)
        for found in scan(memoryview(data), header, chain):
            if isinstance(found, Record):
                yield Place(name, found.offset, found.end, found.position, found.synced_position)


def disk_of(contents: Contents) -> SimDisk:
    """A disk that holds one space's folder, durably."""

    def node(content: bytes | Contents) -> Node:
        if isinstance(content, bytes):
            return FileNode(content)
        return DirNode({name: node(inner) for name, inner in content.items()})

    disk = SimDisk()
    disk._medium = Medium(DirNode({SPACE: node(contents)}))
    return disk


def with_log_file(contents: Contents, name: str, data: bytes | None) -> Contents:
    files = dict(folder(contents, "log"))
    files.pop(name, None)
    if data is not None:
        files[name] = data
    return {**contents, "log": files}


class Verdict(NamedTuple):
    """What opening did: how many records it served, or what it refused with."""

    records: int | None
    error: WalError | None
    report: LogReport | None


def verdict_on(contents: Contents, whole: Whole) -> Verdict:
    """Inspect, then open, and hold the two against each other and against the undamaged log."""
    disk = disk_of(contents)
    report: LogReport | None
    try:
        report = inspect_log(disk.root().open_dir(SPACE), UUID)
    except Unsupported:
        report = None
    assert folder(disk.contents()) == contents, "inspecting changed something"
    refused: WalError | None = None
    try:
        log, facts = recover(disk)
    except (Damaged, Unsupported) as error:
        refused = error
    if refused is not None:
        after = folder(disk.contents())
        after.pop("LOCK")
        assert after == contents, "opening refused, but changed something"
        if isinstance(refused, Damaged):
            assert report is not None
            assert refused.file in {damage.file for damage in report.damage}, report.damage
            _check_named(refused, contents)
        else:
            assert report is None
        return Verdict(None, refused, report)
    assert report is not None
    assert report.damage == []
    assert (report.torn is not None) == (log.opened.quarantined is not None)
    assert report.records == len(facts)
    assert facts == whole.facts[: len(facts)], "something else than was written was served"
    return Verdict(len(facts), None, report)


def _check_named(error: Damaged, contents: Contents) -> None:
    """The error names a file that is there, and a byte in it; or one that should be there."""
    data: bytes | Contents | None = contents
    for part in error.file.split("/"):
        data = data.get(part) if isinstance(data, dict) else None
    assert data is None or (isinstance(data, bytes) and 0 <= error.offset <= len(data))


def expected_records(whole: Whole, name: str, first: int, stop: int) -> int | None:
    """How many records must be served after bytes `first` to `stop` of a segment have changed;
    None if opening has to refuse.
    """
    if first < f.SEGMENT_HEADER_BYTES:
        return None
    hit = [i for i, p in enumerate(whole.places) if p.file == name and p.end > first]
    hit = [i for i in hit if whole.places[i].start < stop]
    if name != whole.active:
        return None
    if not hit:
        return len(whole.places)
    if whole.places[hit[0]].position <= whole.watermark:
        return None
    behind = whole.places[hit[-1] + 1 :]
    if any(p.synced_position >= whole.places[hit[0]].position for p in behind):
        return None
    return hit[0]


def check_change(whole: Whole, name: str, first: int, new: bytes) -> None:
    """Overwrite part of a segment and compare the verdict with what the place demands."""
    old = whole.log_files[name]
    changed = old[:first] + new + old[first + len(new) :]
    differs = [i for i in range(first, first + len(new)) if changed[i] != old[i]]
    if not differs:
        return
    verdict = verdict_on(with_log_file(whole.contents, name, changed), whole)
    expected = expected_records(whole, name, differs[0], differs[-1] + 1)
    where = f"{name}, bytes {first} to {first + len(new)}: {verdict.error}"
    assert verdict.records == expected, where
    if expected is None:
        assert isinstance(verdict.error, Damaged), where
        assert verdict.error.file == f"log/{name}", where
        starts = [p.start for p in whole.places if p.file == name and p.end > differs[0]]
        offset = 0 if differs[0] < f.SEGMENT_HEADER_BYTES else starts[0]
        assert verdict.error.offset == offset, where


WHOLE = {"closed": Whole(closed=True), "crashed": Whole(closed=False)}
BOTH = pytest.mark.parametrize("whole", WHOLE.values(), ids=WHOLE.keys())


@BOTH
def test_the_log_under_test_has_what_the_damage_needs(whole: Whole) -> None:
    assert (whole.watermark >= whole.places[-1].position) == (whole is WHOLE["closed"])
    assert len(whole.names) >= 4
    assert len([p for p in whole.places if p.file == whole.active]) >= 6
    assert verdict_on(whole.contents, whole).records == len(whole.facts) == len(whole.places)


@BOTH
def test_every_length_the_active_segment_can_be_cut_to(whole: Whole) -> None:
    data = whole.log_files[whole.active]
    for length in range(len(data)):
        if 0 < length < f.SEGMENT_HEADER_BYTES - 3 and length % 97:
            continue
        contents = with_log_file(whole.contents, whole.active, data[:length])
        verdict = verdict_on(contents, whole)
        # What was cut off proves nothing by itself, but a watermark may know of it.
        left = [p for p in whole.places if p.file != whole.active or p.end <= length]
        known = [p for p in whole.places if p.position <= whole.watermark]
        if length < f.SEGMENT_HEADER_BYTES or len(left) < len(known):
            assert isinstance(verdict.error, Damaged)
        else:
            assert verdict.records == len(left), f"cut to {length}"


@BOTH
def test_every_length_a_sealed_segment_can_be_cut_or_grown_to(whole: Whole) -> None:
    for name in whole.names[:-1]:
        data = whole.log_files[name]
        lengths = [0, 1, 4_095, *range(4_096, len(data)), *range(len(data) + 1, len(data) + 70, 7)]
        for length in lengths:
            contents = with_log_file(whole.contents, name, data[:length].ljust(length, b"\0"))
            assert isinstance(verdict_on(contents, whole).error, Damaged), f"{name} of {length}"


def flips(data: bytes, first: int, stop: int) -> Iterator[tuple[int, bytes]]:
    for at in range(first, min(stop, len(data))):
        for bit in range(8):
            yield at, bytes([data[at] ^ 1 << bit])


@BOTH
def test_every_bit_of_every_record_flipped(whole: Whole) -> None:
    for place in whole.places:
        # Headers wholly, of payloads a part: they are all under one checksum.
        data = whole.log_files[place.file]
        for at, new in flips(data, place.start, min(place.end, place.start + 72)):
            check_change(whole, place.file, at, new)
        for at, new in flips(data, max(place.start + 72, place.end - 9), place.end):
            check_change(whole, place.file, at, new)


@BOTH
def test_every_bit_behind_the_last_record_flipped_loses_nothing(whole: Whole) -> None:
    data = whole.log_files[whole.active]
    end = whole.places[-1].end
    for at, new in flips(data, end, len(data)):
        if at < end + 80 or at % 61 == 0:
            check_change(whole, whole.active, at, new)


@BOTH
def test_bits_of_segment_headers_flipped(whole: Whole) -> None:
    for name in whole.names:
        for at, new in flips(whole.log_files[name], 0, f.SEGMENT_HEADER_BYTES):
            if at < 130 or at >= 4_088 or at % 211 == 0:
                check_change(whole, name, at, new)


@BOTH
@pytest.mark.parametrize("fill", ["zeros", "noise"])
def test_ranges_overwritten(whole: Whole, fill: str) -> None:
    rng = Random(fill)
    for name in whole.names:
        size = len(whole.log_files[name])
        for _ in range(250):
            first = rng.randrange(f.SEGMENT_HEADER_BYTES - 40, size)
            length = min(size - first, rng.choice((1, 8, 64, 100, 512, 4_096)))
            new = bytes(length) if fill == "zeros" else rng.randbytes(length)
            check_change(whole, name, first, new)


@BOTH
def test_a_record_copied_over_or_behind_others_is_never_taken_for_one_of_them(
    whole: Whole,
) -> None:
    for target in whole.places:
        for source in whole.places[:: max(1, len(whole.places) // 5)]:
            data = whole.log_files[source.file][source.start : source.end]
            room = len(whole.log_files[target.file]) - target.start
            check_change(whole, target.file, target.start, data[:room])
    last = whole.places[-1]
    data = whole.log_files[whole.active]
    again = data[: last.end] + data[last.start : last.end] + data[last.end :]
    verdict = verdict_on(with_log_file(whole.contents, whole.active, again), whole)
    assert verdict.records == len(whole.facts)


@BOTH
def test_a_segment_that_is_gone_refuses(whole: Whole) -> None:
    for name in whole.names:
        verdict = verdict_on(with_log_file(whole.contents, name, None), whole)
        assert isinstance(verdict.error, Damaged)
        assert verdict.error.file == f"log/{name}"


@BOTH
def test_segments_in_each_other_s_place_refuse(whole: Whole) -> None:
    files = whole.log_files
    for one in whole.names:
        for other in whole.names:
            if one != other:
                swapped = with_log_file(whole.contents, one, files[other])
                swapped = with_log_file(swapped, other, files[one])
                copied = with_log_file(whole.contents, one, files[other])
                for contents in (swapped, copied):
                    assert isinstance(verdict_on(contents, whole).error, Damaged)


@BOTH
@pytest.mark.parametrize("first_position", [1, 5, 10**6])
@pytest.mark.parametrize("segment_id", [1, 3, 900])
def test_a_segment_under_one_more_name_refuses(
    whole: Whole, first_position: int, segment_id: int
) -> None:
    name = f.SEGMENT_NAME.format(first_position=first_position, segment_id=segment_id)
    for source in whole.names:
        if name not in whole.names:
            contents = with_log_file(whole.contents, name, whole.log_files[source])
            assert isinstance(verdict_on(contents, whole).error, Damaged)


@BOTH
@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda: Whole(closed=True, salt=b"again"), id="another incarnation"),
        pytest.param(lambda: Whole(closed=True, uuid=bytes(16)), id="another space"),
    ],
)
def test_a_foreign_segment_refuses(whole: Whole, other: Callable[[], Whole]) -> None:
    foreign = other()
    assert foreign.log_files[foreign.names[0]] != whole.log_files[whole.names[0]]
    for name, data in foreign.log_files.items():
        replaced = with_log_file(whole.contents, name, data)
        assert isinstance(verdict_on(replaced, whole).error, Damaged), name
        strange = f.SEGMENT_NAME.format(first_position=10**7, segment_id=77)
        added = with_log_file(whole.contents, strange, data)
        assert isinstance(verdict_on(added, whole).error, Damaged), name


@BOTH
def test_records_of_another_incarnation_do_not_replay(whole: Whole) -> None:
    foreign = Whole(closed=True, salt=b"again")
    name = whole.names[0]
    mixed = whole.log_files[name][:4_096] + foreign.log_files[name][4_096:]
    assert isinstance(verdict_on(with_log_file(whole.contents, name, mixed), whole).error, Damaged)


def test_records_of_two_pasts_of_one_segment_do_not_mix() -> None:
    """A group that was cut off again may lie on the disk behind the one that took its place."""
    start = SimDisk()
    make_space(start)
    pasts = []
    for number in (10, 22):
        disk = start.clone()
        log = open_log(disk)
        log.append([draft(number, 100), draft(number + 3, 100)])
        log.sync()
        log.close()
        past = folder(disk.contents())
        del past[WATERMARK_NAME]  # as if neither had come to write it
        pasts.append(past)
    name, data = next(iter(log_files(pasts[1]).items()))
    record = list(_places(log_files(pasts[1])))[1]
    mixed = data[: record.end] + log_files(pasts[0])[name][record.end :]
    disk = disk_of(with_log_file(pasts[1], name, mixed))
    _, facts = recover(disk)
    assert [fact.payload for fact in facts[1:]] == [joined(draft(22, 100))]


@BOTH
def test_every_bit_of_the_manifest_flipped(whole: Whole) -> None:
    name = whole.manifest
    data = whole.contents[name]
    assert isinstance(data, bytes)
    for at, new in flips(data, 0, len(data)):
        changed = data[:at] + new + data[at + 1 :]
        verdict = verdict_on({**whole.contents, name: changed}, whole)
        assert verdict.error is not None, f"byte {at}"
        assert not isinstance(verdict.error, Damaged) or verdict.error.file == name


@BOTH
def test_every_length_the_manifest_can_be_cut_to(whole: Whole) -> None:
    data = whole.contents[whole.manifest]
    assert isinstance(data, bytes)
    for length in range(len(data)):
        contents = {**whole.contents, whole.manifest: data[:length]}
        assert isinstance(verdict_on(contents, whole).error, Damaged)


@BOTH
@pytest.mark.parametrize("name", ["MANIFEST-1", "MANIFEST-99", "MANIFEST-3.tmp", "MANIFEST", None])
def test_a_manifest_renamed_or_removed_refuses(whole: Whole, name: str | None) -> None:
    contents = dict(whole.contents)
    data = contents.pop(whole.manifest)
    if name is not None:
        contents[name] = data
    assert isinstance(verdict_on(contents, whole).error, Damaged)


@BOTH
def test_a_newer_manifest_that_is_broken_is_no_reason_to_use_the_older(whole: Whole) -> None:
    number = int(whole.manifest.removeprefix("MANIFEST-"))
    for data in (b"", b"ENGRAM-MANIFEST 1 0 00000000\n", whole.contents[whole.manifest]):
        contents = {**whole.contents, f"MANIFEST-{number + 1}": data}
        verdict = verdict_on(contents, whole)
        assert isinstance(verdict.error, Damaged)
        assert verdict.error.file == f"MANIFEST-{number + 1}"


def orphan(whole: Whole, segment_id: int, prev_segment_id: int) -> tuple[str, bytes]:
    """A whole, empty segment of this space that would continue its end but for its ids."""
    last = whole.places[-1]
    data = whole.log_files[whole.active]
    header = decode_segment_header(data)
    record = decode_record(memoryview(data), last.start, header.seed)  # type: ignore[union-attr]
    assert isinstance(record, Record)
    made = SegmentHeader(
        UUID,
        segment_id,
        record.next_position,
        bytes(16),
        prev_segment_id,
        last.end,
        record.payload_crc,
        0,
    )
    return made.name, encode_segment_header(made)


def test_only_the_active_segment_s_own_successor_is_live() -> None:
    whole = WHOLE["closed"]
    live = decode_segment_header(whole.log_files[whole.active]).segment_id  # type: ignore[union-attr]
    for segment_id, prev_id in [(live + 1, live), (live + 9, live), (live + 1, live - 1), (90, 89)]:
        contents = with_log_file(whole.contents, *orphan(whole, segment_id, prev_id))
        verdict = verdict_on(contents, whole)
        if prev_id == live:
            assert verdict.records == len(whole.facts)
        else:
            assert isinstance(verdict.error, Damaged)


@BOTH
@pytest.mark.parametrize(
    "field", ["segment_id", "first_position", "next_position", "length", "final_crc", "time_ns"]
)
def test_a_sealed_segment_that_is_not_as_the_manifest_says_refuses(
    whole: Whole, field: str
) -> None:
    data = whole.contents[whole.manifest]
    assert isinstance(data, bytes)
    manifest = decode_manifest(whole.manifest, data)
    for index, sealed in enumerate(manifest.sealed):
        other = msgspec.structs.replace(sealed, **{field: getattr(sealed, field) + 1})
        segments = (*manifest.sealed[:index], other, *manifest.sealed[index + 1 :])
        changed = encode_manifest(msgspec.structs.replace(manifest, sealed=segments))
        verdict = verdict_on({**whole.contents, whole.manifest: changed}, whole)
        assert isinstance(verdict.error, Damaged)
        assert verdict.error.file == f"log/{sealed.name}"


@BOTH
def test_a_manifest_that_names_too_little_is_completed_by_the_chain_or_refuses(
    whole: Whole,
) -> None:
    data = whole.contents[whole.manifest]
    assert isinstance(data, bytes)
    manifest = decode_manifest(whole.manifest, data)
    for keep in range(len(manifest.sealed)):
        older = msgspec.structs.replace(
            manifest, sealed=manifest.sealed[:keep], active=manifest.sealed[keep].name
        )
        contents = {**whole.contents, whole.manifest: encode_manifest(older)}
        assert verdict_on(contents, whole).records == len(whole.facts)
        headless = msgspec.structs.replace(manifest, sealed=manifest.sealed[keep + 1 :])
        contents = {**whole.contents, whole.manifest: encode_manifest(headless)}
        assert isinstance(verdict_on(contents, whole).error, Damaged)


@BOTH
def test_leftover_temporaries_and_strangers_do_not_matter(whole: Whole) -> None:
    log = {**folder(whole.contents, "log"), "1.seg.tmp": b"half", "notes.txt": b"mine"}
    contents = {**whole.contents, "log": log, "MANIFEST-9.tmp": b"half"}
    verdict = verdict_on(contents, whole)
    assert verdict.records == len(whole.facts)
    assert verdict.report is not None
    assert verdict.report.strangers == ["log/notes.txt"]


@BOTH
def test_the_manifest_of_another_space_refuses(whole: Whole) -> None:
    foreign = Whole(closed=True, uuid=bytes(16))
    contents = dict(whole.contents)
    contents.pop(whole.manifest)
    contents[foreign.manifest] = foreign.contents[foreign.manifest]
    disk = disk_of(contents)
    assert inspect_log(disk.root().open_dir(SPACE), UUID).damage
    with pytest.raises(Damaged):
        recover(disk)


def registry_disk() -> tuple[SimDisk, Contents]:
    disk = SimDisk()
    registry = Registry(disk.root(), owner="a test")
    for name in ("a", "b"):
        space = registry.create(name, EmbeddingSpec(model="caller", dimensions=2))
        space.remember(f"of {name}", id="m", embedding=[1.0, 0.5])
    registry.close()
    return disk, disk.contents()


def changed_disk(contents: Contents) -> SimDisk:
    disk = disk_of({})
    disk._medium = disk_of(contents)._medium
    disk._medium.root = disk._medium.root.visible[SPACE]  # type: ignore[assignment]
    return disk


def test_every_bit_of_a_space_s_identity_flipped_refuses_that_space_alone() -> None:
    _, contents = registry_disk()
    data = folder(contents, "a")["space.json"]
    assert isinstance(data, bytes)
    for at, new in flips(data, 0, len(data)):
        changed = data[:at] + new + data[at + 1 :]
        damaged = {**contents, "a": {**folder(contents, "a"), "space.json": changed}}
        disk = changed_disk(damaged)
        registry = Registry(disk.root(), owner="a test")
        with pytest.raises(SpaceDamaged):
            registry.space("a")
        states = [info.state for info in registry.list(limit=None, after=None)]
        assert states == ["damaged", None], "None: not opened yet"
        assert registry.space("b").get("m").content == "of b"
        assert folder(disk.contents(), "a") == damaged["a"]
        registry.close()


@pytest.mark.parametrize("new_name", ["c", "b"])
def test_a_folder_under_another_name_refuses(new_name: str) -> None:
    _, contents = registry_disk()
    renamed = {name: inner for name, inner in contents.items() if name != "a"}
    renamed[new_name] = contents["a"]
    disk = changed_disk(renamed)
    registry = Registry(disk.root(), owner="a test")
    with pytest.raises(SpaceDamaged):
        registry.space(new_name)
    with pytest.raises(EngramError):
        registry.create(new_name, None)
    assert folder(disk.contents(), new_name) == contents["a"]
    registry.close()
