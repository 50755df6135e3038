"""Offline reading of whole and damaged logs: what verifies is found, what does not is named."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from crc32c import crc32c

import engram
from engram.inspect.dump import (
    EventLine,
    Problem,
    RecordLine,
    Wanted,
    dump_events,
    dump_records,
    event_document,
    hex_rows,
)
from engram.inspect.figures import Inspection, inspect
from engram.inspect.sources import (
    NewerFormat,
    NoLog,
    NothingThere,
    Unreadable,
    find_sources,
    opened,
)
from tests.crash.histories import draft, fresh_space, open_log
from wal import format as f
from wal.codec import SegmentHeader, decode_segment_header, encode_segment_header

CALLER = engram.EmbeddingSpec(model="caller", dimensions=2)


class Reference(NamedTuple):
    """A small space, its one segment, and where in it each record begins and ends."""

    folder: Path
    segment: Path
    data: bytes
    places: list[tuple[int, int, int]]


def make_reference(root: Path) -> Reference:
    with engram.open(root) as db:
        space = db.create_space("alpha", embedding=CALLER)
        space.remember("tea at four", id="tea", tags=["daily"], embedding=[1, 0])
        space.remember_many(
            [engram.NewMemory(content=f"{n}", id=f"m{n}", embedding=[0, n]) for n in range(1, 3)]
        )
        space.revise("tea", engram.Changes(tags=("weekly",)))
        space.forget("m1")
    (segment,) = (root / "alpha" / "log").glob("*.seg")
    with opened(*find_sources(segment)) as log:
        lines = [line for line in dump_records(log, Wanted()) if isinstance(line, RecordLine)]
        places = [(x.record.offset, x.record.end, x.record.position) for x in lines]
    return Reference(root / "alpha", segment, segment.read_bytes(), places)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return make_reference(tmp_path_factory.mktemp("reference") / "data")


@pytest.fixture
def copy(whole: Reference, tmp_path: Path) -> Reference:
    """The same, to be damaged."""
    folder = tmp_path / "alpha"
    shutil.copytree(whole.folder, folder)
    return whole._replace(folder=folder, segment=folder / "log" / whole.segment.name)


def dumped(path: Path, wanted: Wanted = Wanted()) -> tuple[list[EventLine], list[Problem]]:  # noqa: B008
    lines: list[EventLine] = []
    problems: list[Problem] = []
    for source in find_sources(path):
        with opened(source) as log:
            for line in dump_events(log, wanted):
                if isinstance(line, Problem):
                    problems.append(line)
                else:
                    lines.append(line)
    return lines, problems


def positions(path: Path) -> list[int]:
    """Of the records that a dump shows."""
    (source,) = find_sources(path)
    with opened(source) as log:
        lines = list(dump_records(log, Wanted()))
        return [line.record.position for line in lines if isinstance(line, RecordLine)]


def report(path: Path) -> Inspection:
    (found,) = inspect(path)
    return found


def damage(path: Path, offset: int, new: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[offset : offset + len(new)] = new
    path.write_bytes(data)


def header_flips() -> Iterator[int]:
    yield from range(124)
    yield from range(124, f.SEGMENT_HEADER_BYTES - 8, 173)
    yield from range(f.SEGMENT_HEADER_BYTES - 8, f.SEGMENT_HEADER_BYTES)


def check_damaged(whole: Reference, path: Path, data: bytes, expected: list[int]) -> None:
    """A segment file by itself: dump and inspect find what is whole, and tell of the rest."""
    path.write_bytes(data)
    assert positions(path) == expected
    found = report(path)
    figures = found.segments[0]
    assert found.records == len(expected)
    covered = [(span.start, span.end) for span in figures.spans]
    assert [0, *(end for _, end in covered)] == [*(start for start, _ in covered), len(data)]
    if len(expected) < len(whole.places) and data[:-1] != whole.data[: len(data) - 1]:
        assert found.damage or found.torn


def test_every_bit_of_a_segment_flipped_costs_at_most_its_own_record(
    whole: Reference, tmp_path: Path
) -> None:
    path = tmp_path / "sent-in.seg"
    for at in (*header_flips(), *range(f.SEGMENT_HEADER_BYTES, len(whole.data))):
        expected = [place for start, end, place in whole.places if not start <= at < end]
        for bit in range(8):
            flipped = bytes([whole.data[at] ^ 1 << bit])
            data = whole.data[:at] + flipped + whole.data[at + 1 :]
            check_damaged(whole, path, data, expected)


def test_every_length_of_a_segment_keeps_the_records_that_are_whole(
    whole: Reference, tmp_path: Path
) -> None:
    path = tmp_path / "sent-in.seg"
    for length in (*range(0, 4_096, 97), *range(4_090, len(whole.data) + 1)):
        expected = [place for _, end, place in whole.places if end <= length]
        check_damaged(whole, path, whole.data[:length], expected)


def test_a_whole_space_is_described(whole: Reference) -> None:
    found = report(whole.folder)
    assert (found.kind, found.memory_space_id, found.ok) == ("space", "alpha", True)
    assert (found.position, found.records, found.events, found.memories) == (6, 5, 6, 2)
    assert found.types == {
        "memory.stored": 3,
        "space.created": 1,
        "memory.revised": 1,
        "memory.forgotten": 1,
    }
    (segment,) = found.segments
    assert (segment.state, segment.segment_id, segment.damaged_bytes) == ("active", 1, 0)
    assert (segment.first_position, segment.last_position) == (1, 6)
    assert segment.used_bytes + segment.zero_bytes == segment.bytes == len(whole.data)
    sizes = [end - start for start, end, _ in whole.places]
    assert found.record_bytes is not None
    assert (found.record_bytes.least, found.record_bytes.most) == (min(sizes), max(sizes))
    assert found.record_bytes.median == sorted(sizes)[2]
    assert sum(bucket.records for bucket in found.record_bytes.histogram) == 5
    for bucket in found.record_bytes.histogram:
        within = [size for size in sizes if bucket.least <= size <= bucket.most]
        assert bucket.records == len(within)
    assert [m.active for m in found.manifests] == [whole.segment.name]
    assert (found.owner, found.in_flux, found.torn, found.gaps) == (None, False, None, [])


def test_events_are_told_as_in_the_feed_and_filtered(whole: Reference) -> None:
    def shown(wanted: Wanted) -> list[int]:
        lines, problems = dumped(whole.folder, wanted)
        assert problems == []
        return [line.event.position for line in lines]

    lines, _ = dumped(whole.folder)
    with engram.open(whole.folder.parent) as db:
        told = list(db.space("alpha").events(after=0))
    assert [line.event for line in lines] == told
    times = [int(line.event.time.timestamp() * 1e6) for line in lines]
    assert shown(Wanted(first=4)) == [4, 5, 6]  # from within a record
    assert shown(Wanted(first=2, last=3)) == [2, 3]
    assert shown(Wanted(types=frozenset({"memory.revised", "memory.forgotten"}))) == [5, 6]
    assert shown(Wanted(memory_id="tea")) == [2, 5]
    assert shown(Wanted(memory_id="m1")) == [3, 6]
    assert shown(Wanted(since_us=times[0])) == [1, 2, 3, 4, 5, 6]
    assert shown(Wanted(until_us=times[0])) == []
    assert shown(Wanted(since_us=max(times) + 1)) == []


def test_vectors_are_shown_when_asked_for_and_only_then(whole: Reference) -> None:
    lines, _ = dumped(whole.folder)
    documents = [event_document(line, embeddings=True) for line in lines]
    vectors = [d["memory"]["embedding"] for d in documents if "memory" in d]
    assert vectors == [[1.0, 0.0], [0.0, 1.0], [0.0, 2.0], [1.0, 0.0]]
    without = [event_document(line, embeddings=False) for line in lines]
    assert not any("embedding" in document.get("memory", {}) for document in without)
    assert [d["offset"] for d in without] == [4096, *[d["offset"] for d in documents[1:]]]


def test_a_file_without_its_space_does_not_name_one(whole: Reference) -> None:
    lines, problems = dumped(whole.segment)
    assert problems == []
    documents = [event_document(line, embeddings=False) for line in lines]
    assert all("memory_space_id" not in d.get("memory", {}) for d in documents)


def test_damage_in_the_middle_is_told_with_the_positions_that_are_gone(copy: Reference) -> None:
    start, _, position = copy.places[2]
    damage(copy.segment, start + 70, b"??")
    lines, problems = dumped(copy.folder)
    assert [line.event.position for line in lines] == [1, 2, 5, 6]
    shown = f"log/{copy.segment.name}"
    end = copy.places[3][0]
    assert problems == [
        Problem(f"{shown} at byte {end}: positions {position} to 4 missing", True),
        Problem(
            f"{shown} at byte {start}: a record's payload checksum does not match "
            f"({end - start} bytes)",
            True,
        ),
    ]
    found = report(copy.folder)
    assert [(gap.first, gap.last) for gap in found.gaps] == [(3, 4)]
    assert (found.ok, found.segments[0].damaged_bytes) == (False, end - start)
    assert found.damage[0].offset == start


def test_records_without_their_header_page_are_found_all_the_same(copy: Reference) -> None:
    damage(copy.segment, 0, bytes(f.SEGMENT_HEADER_BYTES))
    lines, problems = dumped(copy.folder)
    assert len(lines) == 6
    assert any("not a segment" in problem.text for problem in problems)
    found = report(copy.folder)
    assert not found.ok
    assert found.segments[0].seed_from_records


def test_records_that_make_no_sense_are_shown_as_records(copy: Reference) -> None:
    disk = fresh_space()
    log = open_log(disk)
    log.append([draft(2, 30)])
    log.close()
    log_dir = disk.root().open_dir("space").open_dir("log")
    file = log_dir.open(log_dir.names()[0])
    copy.segment.write_bytes(file.read_at(0, file.size()))
    (source,) = find_sources(copy.segment)
    with opened(source) as opened_log:
        lines = list(dump_records(opened_log, Wanted()))
        events = list(dump_events(opened_log, Wanted()))
    assert [line.types for line in lines if isinstance(line, RecordLine)] == [None, None]
    assert all(isinstance(event, Problem) and event.damage for event in events)
    assert len(events) == 2
    assert not report(copy.segment).ok


def test_a_torn_tail_is_no_damage_unless_it_was_durable(copy: Reference) -> None:
    start, _, _ = copy.places[-1]
    damage(copy.segment, start, b"????")
    _, problems = dumped(copy.folder)  # the watermark knows that it was durable
    assert [problem.damage for problem in problems] == [True, True]
    (copy.folder / "WATERMARK").unlink()
    lines, problems = dumped(copy.folder)
    assert [problem.damage for problem in problems] == [False]
    assert len(lines) == 5
    found = report(copy.folder)
    assert found.ok
    assert found.torn is not None
    assert (found.torn.offset, found.in_flux) == (start, False)


def test_a_space_in_use_is_read_without_a_lock(tmp_path: Path) -> None:
    with engram.open(tmp_path / "data") as db:
        space = db.create_space("alpha", embedding=CALLER)
        space.remember("now", embedding=[1, 0])
        (segment,) = (tmp_path / "data" / "alpha" / "log").glob("*.seg")
        found = report(tmp_path / "data" / "alpha")
        assert found.ok
        if Path("/proc/locks").exists():
            assert found.owner is not None
        # As if the writer was in the middle of its next record.
        with segment.open("r+b") as file:
            end = len(segment.read_bytes().rstrip(b"\0")) + 7 & ~7
            file.seek(end)
            file.write(f.RECORD_MAGIC + b"half a record")
        found = report(tmp_path / "data" / "alpha")
        assert found.ok
        assert found.torn is not None
        assert found.in_flux == (found.owner is not None)
        with segment.open("r+b") as file:
            file.seek(end)
            file.write(bytes(20))
        space.remember("and then", embedding=[1, 0])
    assert report(tmp_path / "data" / "alpha").owner is None


def test_a_segment_of_another_space_is_not_read(copy: Reference, tmp_path: Path) -> None:
    other = make_reference(tmp_path / "other")
    shutil.copy(other.segment, copy.folder / "log" / f"{9:020d}-{7:010d}.seg")
    lines, problems = dumped(copy.folder)
    assert len(lines) == 6
    assert any("belongs to another space" in problem.text for problem in problems)
    assert [segment.state for segment in report(copy.folder).segments] == ["active", "foreign"]


def test_a_copied_segment_is_told_of_and_its_records_shown_again(copy: Reference) -> None:
    shutil.copy(copy.segment, copy.folder / "log" / f"{9:020d}-{7:010d}.seg")
    lines, problems = dumped(copy.folder)
    assert len(lines) == 12
    assert any("renamed or copied" in problem.text for problem in problems)
    assert any("repeated" in problem.text for problem in problems)


def test_data_roots_folders_of_segments_and_manifests_are_known(
    whole: Reference, tmp_path: Path
) -> None:
    assert [r.memory_space_id for r in inspect(whole.folder.parent)] == ["alpha"]
    assert report(whole.folder / "log").kind == "segments"
    manifest = report(whole.folder / "MANIFEST-1")
    assert (manifest.kind, manifest.ok) == ("manifest", True)
    assert manifest.manifests[0].active == whole.segment.name
    sent_in = tmp_path / "sent-in"
    shutil.copy(whole.folder / "MANIFEST-1", sent_in)
    assert report(sent_in).ok
    damage(sent_in, 60, b"?")
    assert not report(sent_in).ok
    link = tmp_path / "link"
    link.symlink_to(whole.folder)
    assert report(link).ok


@pytest.mark.parametrize("missing", ["space.json", "log", "MANIFEST-1", "all but the manifest"])
def test_a_space_without_one_of_its_parts_is_damaged_but_read(
    copy: Reference, missing: str
) -> None:
    gone = ["space.json", "log"] if missing.startswith("all") else [missing]
    for name in gone:
        target = copy.folder / name
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    assert not report(copy.folder).ok
    lines, problems = dumped(copy.folder)
    assert len(lines) == (0 if "log" in gone else 6)
    assert any(problem.damage for problem in problems)


def test_a_manifest_that_names_a_missing_file_and_two_manifests(copy: Reference) -> None:
    shutil.copy(copy.folder / "MANIFEST-1", copy.folder / "MANIFEST-2")
    found = report(copy.folder)
    assert [(m.name, m.ok) for m in found.manifests] == [
        ("MANIFEST-1", True),
        ("MANIFEST-2", False),
    ]
    assert any("renamed or copied" in d.reason for d in found.damage)
    (copy.folder / "MANIFEST-2").unlink()
    copy.segment.unlink()
    _, problems = dumped(copy.folder)
    assert "missing" in problems[0].text


def test_a_newer_format_is_refused_by_name(copy: Reference) -> None:
    decoded = decode_segment_header(copy.data)
    assert isinstance(decoded, SegmentHeader)
    header = bytearray(encode_segment_header(decoded))
    header[8] = 9
    crc = f.mask(crc32c(bytes(header[:-4])))
    header[-4:] = crc.to_bytes(4, "little")
    damage(copy.segment, 0, bytes(header))
    for path in (copy.segment, copy.folder):
        with pytest.raises(NewerFormat, match="Upgrade Engram"):
            inspect(path)
        with pytest.raises(NewerFormat):
            dumped(path)
    damage(copy.folder / "MANIFEST-1", len("ENGRAM-MANIFEST "), b"2")
    with pytest.raises(NewerFormat):
        inspect(copy.folder / "MANIFEST-1")


def test_paths_that_hold_no_log(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("hello")
    (tmp_path / "nothing").write_text("")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    with pytest.raises(NothingThere):
        find_sources(tmp_path / "nowhere")
    with pytest.raises(NothingThere):
        find_sources(tmp_path / "broken")
    for name in ("empty", "text", "nothing"):
        with pytest.raises(NoLog):
            find_sources(tmp_path / name)
    with pytest.raises(NoLog, match="regular"):
        find_sources("/dev/null")


def test_what_the_system_refuses_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.seg"
    path.write_bytes(b"x")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refused)
        with pytest.raises(Unreadable, match=r"Permission denied.*as the user"):
            find_sources(path)


def test_hexadecimal_rows_leave_out_what_repeats() -> None:
    data = b"0123456789abcdef" + bytes(48) + b"end"
    assert list(hex_rows(data, 64)) == [
        "00000040  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  |0123456789abcdef|",
        "00000050  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  |................|",
        "*",
        "00000080  65 6e 64                                         |end|",
    ]
