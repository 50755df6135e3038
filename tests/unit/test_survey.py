"""Pieces of a segment file: whatever happens to its bytes, the records that are whole are found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.crash.histories import Fact, draft, fresh_space, open_log
from wal import format as f
from wal import survey as surveying
from wal.codec import Record, SegmentHeader, decode_segment_header, find_records
from wal.opened import LogOptions
from wal.survey import Hole, Zeros, recover_seed, survey
from wal.vfs import File


def reference() -> bytes:
    """A small segment of several records, with room reserved behind them."""
    disk = fresh_space()
    log = open_log(disk, options=LogOptions(1 << 20, 256, 256))
    for number, size in enumerate((0, 30, 9, 70, 25), start=1):
        log.append([draft(number, size)])
        log.sync()
    log_dir = disk.root().open_dir("space").open_dir("log")
    file = log_dir.open(log_dir.names()[0])
    return file.read_at(0, file.size())


DATA = reference()


def header_of(data: bytes) -> SegmentHeader:
    header = decode_segment_header(data)
    assert isinstance(header, SegmentHeader)
    return header


SEED = header_of(DATA).seed
RECORDS = list(find_records(memoryview(DATA), f.SEGMENT_HEADER_BYTES, SEED))


def file_of(data: bytes) -> File:
    disk = fresh_space()
    file = disk.root().create("copy")
    if data:
        file.write_at(0, data)
    return file


def records(data: bytes, seed: int = SEED) -> list[Fact]:
    return [Fact.of(r) for r in survey(file_of(data), seed) if isinstance(r, Record)]


def whole(kept: Sequence[bool]) -> list[Fact]:
    """The records of the undamaged segment no byte of which is among the altered."""
    return [Fact.of(r) for r in RECORDS if all(kept[r.offset : r.end])]


def flips() -> Iterator[tuple[int, bytes]]:
    for at in range(f.SEGMENT_HEADER_BYTES, len(DATA)):
        for bit in range(8):
            yield at, bytes([DATA[at] ^ 1 << bit])


def test_an_undamaged_segment_is_records_and_zeros() -> None:
    pieces = list(survey(file_of(DATA), SEED))
    assert [type(p) for p in pieces] == [Record] * len(RECORDS) + [Zeros]
    assert len(RECORDS) == 6
    ends = [f.SEGMENT_HEADER_BYTES, *(p.end for p in pieces)]
    assert [p.offset for p in pieces] == ends[:-1]
    assert ends[-1] == len(DATA)


def test_every_bit_flipped_costs_no_record_but_its_own() -> None:
    for at, new in flips():
        data = DATA[:at] + new + DATA[at + 1 :]
        kept = [i != at for i in range(len(DATA))]
        assert records(data) == whole(kept), at


def test_every_length_keeps_the_records_that_are_whole() -> None:
    for length in range(len(DATA) + 1):
        kept = [i < length for i in range(len(DATA))]
        assert records(DATA[:length]) == whole(kept), length


@given(st.integers(f.SEGMENT_HEADER_BYTES, len(DATA) - 1), st.binary(min_size=1, max_size=200))
def test_pieces_cover_the_file_and_agree_with_find_records(at: int, new: bytes) -> None:
    data = (DATA[:at] + new + DATA[at + len(new) :])[: len(DATA)]
    pieces = list(survey(file_of(data), SEED))
    ends = [f.SEGMENT_HEADER_BYTES, *(p.end for p in pieces)]
    assert [p.offset for p in pieces] == ends[:-1]
    assert ends[-1] == len(data)
    expected = find_records(memoryview(data), f.SEGMENT_HEADER_BYTES, SEED)
    assert records(data) == [Fact.of(record) for record in expected]


def test_bytes_between_records_are_a_hole_with_its_reason() -> None:
    second, third = RECORDS[1:3]
    for new, reason in (
        (bytes(second.end - second.offset), "zeros stand where records were"),
        (b"x" * 16, "neither a record nor the zeros that end a log"),
    ):
        data = DATA[: second.offset] + new + DATA[second.offset + len(new) :]
        holes = [p for p in survey(file_of(data), SEED) if isinstance(p, Hole)]
        assert holes == [Hole(second.offset, third.offset, reason)]


def test_bytes_behind_the_end_are_a_hole_and_then_zeros() -> None:
    end = RECORDS[-1].end
    data = DATA[: end + 70] + b"x" + DATA[end + 71 :]
    *_, hole, zeros = survey(file_of(data), SEED)
    assert hole == Hole(end, end + 72, "zeros, and then bytes that are no record")
    assert zeros == Zeros(end + 72, len(data))


@pytest.mark.parametrize("window", [64, 128, 4096])
def test_the_window_a_file_is_read_through_makes_no_difference(
    window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = RECORDS[1]
    data = DATA[: second.offset + 4] + b"?" + DATA[second.offset + 5 :]
    expected = [p for p in survey(file_of(data), SEED) if not isinstance(p, Record)]
    found = records(data)
    monkeypatch.setattr(surveying, "WINDOW_BYTES", window)
    assert [p for p in survey(file_of(data), SEED) if not isinstance(p, Record)] == expected
    assert records(data) == found


def test_a_file_that_is_cut_back_while_it_is_read_ends_there() -> None:
    file = file_of(DATA)
    pieces = survey(file, SEED)
    first = next(pieces)
    file.truncate(first.end + 10)
    surveyed = [first, *pieces]
    assert surveyed[-1].end <= len(DATA)


def test_the_seed_is_found_without_the_header_page() -> None:
    blank = bytes(f.SEGMENT_HEADER_BYTES) + DATA[f.SEGMENT_HEADER_BYTES :]
    assert recover_seed(file_of(blank)) == SEED
    # Without the first record, two others have to agree.
    first = RECORDS[0]
    assert recover_seed(file_of(bytes(first.end) + DATA[first.end :])) == SEED
    last = RECORDS[-1]
    assert recover_seed(file_of(bytes(last.offset) + DATA[last.offset :])) is None
    assert recover_seed(file_of(bytes(len(DATA)))) is None
    assert recover_seed(file_of(b"")) is None


def test_a_seed_is_never_taken_from_an_altered_record() -> None:
    """With one bit of any record flipped besides, the seed found is the right one or none."""
    for at, new in flips():
        data = bytes(f.SEGMENT_HEADER_BYTES) + DATA[f.SEGMENT_HEADER_BYTES : at] + new
        assert recover_seed(file_of(data + DATA[at + 1 :])) == SEED
