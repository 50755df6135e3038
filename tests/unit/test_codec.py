"""Segment headers and records: every write goes through the encoder and the decoder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wal import format as f
from wal.codec import (
    Bad,
    Draft,
    End,
    Record,
    SegmentHeader,
    check_draft,
    decode_record,
    decode_segment_header,
    encode_record,
    encode_segment_header,
    find_records,
)
from wal.errors import RecordTooLarge, Unsupported
from wal.segment import Chain, scan

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
HEADERS = st.builds(
    SegmentHeader,
    space_uuid=st.binary(min_size=16, max_size=16),
    segment_id=U64,
    first_position=U64,
    nonce=st.binary(min_size=16, max_size=16),
    prev_segment_id=U64,
    prev_len=U64,
    prev_final_crc=U32,
    created_ns=U64,
    kind=st.sampled_from(f.KINDS),
)
DRAFTS = st.builds(
    Draft,
    payload=st.lists(st.binary(max_size=200), max_size=4),
    events=st.integers(1, f.EVENTS_PER_RECORD_MAX),
    time_ns=U64,
    type=st.integers(0, 2**16 - 1),
    flags=st.integers(0, 2**16 - 1),
    batch_id=U64,
    epoch=U32,
)
HEADER = SegmentHeader(b"u" * 16, 3, 10, b"n" * 16, 2, 5_000, 77, 1_000)


def encoded(
    draft: Draft, *, position: int = 10, prev_crc: int = 5, seed: int = HEADER.seed
) -> bytes:
    buffers, length, _ = encode_record(
        draft, position=position, time_ns=7, synced_position=9, prev_crc=prev_crc, seed=seed
    )
    data = b"".join(buffers)
    assert len(data) == length
    return data


RECORD = encoded(Draft([b"some", b" payload"], 2, 0))


def reseal_header(page: bytes) -> bytes:
    """The page with a checksum that is right again."""
    from crc32c import crc32c

    return page[:-4] + f.CRC.pack(f.mask(crc32c(page[:-4])))


@given(HEADERS)
def test_a_segment_header_comes_back_from_its_page(header: SegmentHeader) -> None:
    page = encode_segment_header(header)
    assert len(page) == f.SEGMENT_HEADER_BYTES
    assert decode_segment_header(page) == header
    assert decode_segment_header(page + b"what follows") == header


def test_no_single_flipped_bit_of_a_segment_header_passes() -> None:
    page = bytearray(encode_segment_header(HEADER))
    for bit in range(len(page) * 8):
        page[bit // 8] ^= 1 << bit % 8
        assert isinstance(decode_segment_header(page), Bad), f"bit {bit}"
        page[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("length", [0, 1, 8, 4_095])
def test_a_page_cut_short_is_bad(length: int) -> None:
    assert isinstance(decode_segment_header(encode_segment_header(HEADER)[:length]), Bad)


@pytest.mark.parametrize(
    ("offset", "value"),
    [(8, b"\x02\x00"), (8, b"\x00\x00"), (84, b"\x07\x00\x00\x00"), (96, b"\x01"), (103, b"\x80")],
    ids=["newer major", "older major", "unknown kind", "unknown feature", "last feature bit"],
)
def test_a_whole_header_of_another_format_is_unsupported(offset: int, value: bytes) -> None:
    page = bytearray(encode_segment_header(HEADER))
    page[offset : offset + len(value)] = value
    with pytest.raises(Unsupported, match="Upgrade"):
        decode_segment_header(reseal_header(bytes(page)))


@pytest.mark.parametrize(
    ("offset", "value"), [(10, b"\x09\x00"), (104, b"\xff" * 8)], ids=["minor", "compat features"]
)
def test_what_a_reader_need_not_know_does_not_stop_it(offset: int, value: bytes) -> None:
    page = bytearray(encode_segment_header(HEADER))
    page[offset : offset + len(value)] = value
    assert decode_segment_header(reseal_header(bytes(page))) == HEADER


def test_a_segment_s_name_sorts_by_position() -> None:
    names = [HEADER._replace(first_position=n).name for n in (1, 9, 10, 10**15)]
    assert names == sorted(names)
    assert HEADER.name == "00000000000000000010-0000000003.seg"


@given(
    DRAFTS,
    st.integers(0, 9),
    *(U64 for _ in range(3)),
    *(U32 for _ in range(2)),
)
def test_a_record_comes_back_from_its_bytes(
    draft: Draft,
    units_in_front: int,
    position: int,
    time_ns: int,
    synced: int,
    prev_crc: int,
    seed: int,
) -> None:
    buffers, length, crc = encode_record(
        draft,
        position=position,
        time_ns=time_ns,
        synced_position=synced,
        prev_crc=prev_crc,
        seed=seed,
    )
    front = bytes(units_in_front * f.RECORD_ALIGN)
    data = front + b"".join(buffers)
    found = decode_record(memoryview(data + b"\1next"), len(front), seed)
    assert isinstance(found, Record)
    payload = b"".join(draft.payload)
    assert found == Record(
        position=position,
        events=draft.events,
        time_ns=time_ns,
        synced_position=synced,
        type=draft.type,
        flags=draft.flags,
        epoch=draft.epoch,
        batch_id=draft.batch_id,
        prev_crc=prev_crc,
        payload_crc=crc,
        offset=len(front),
        end=len(data),
        payload=memoryview(payload),
    )
    assert length == len(data) - len(front) == f.RECORD_HEADER_BYTES + f.padded(len(payload))


def test_a_payload_may_come_in_any_kind_of_buffer() -> None:
    import array

    numbers = array.array("f", [1.0, 2.0])
    parts = [b"bytes", bytearray(b"array"), memoryview(b"view"), memoryview(numbers)]
    found = decode_record(memoryview(encoded(Draft(parts, 1, 0))), 0, HEADER.seed)
    assert isinstance(found, Record)
    assert bytes(found.payload) == b"bytesarrayview" + numbers.tobytes()


@pytest.mark.parametrize("bit", range(len(RECORD) * 8))
def test_no_single_flipped_bit_of_a_record_passes(bit: int) -> None:
    data = bytearray(RECORD)
    data[bit // 8] ^= 1 << bit % 8
    assert isinstance(decode_record(memoryview(data), 0, HEADER.seed), Bad)


def test_no_flipped_bit_of_a_record_in_front_of_others_hides_them() -> None:
    data = bytearray(RECORD + RECORD)
    for bit in range(len(RECORD) * 8):
        data[bit // 8] ^= 1 << bit % 8
        found = [record.offset for record in find_records(memoryview(data), 0, HEADER.seed)]
        assert found == [len(RECORD)]
        data[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("length", range(1, len(RECORD)))
def test_a_record_cut_short_is_bad(length: int) -> None:
    assert isinstance(decode_record(memoryview(RECORD[:length]), 0, HEADER.seed), Bad)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 63, 64, 65, 5_000])
def test_zeros_are_an_end_and_never_a_record(length: int) -> None:
    zeros = memoryview(bytes(length))
    assert decode_record(zeros, 0, HEADER.seed) == End(0)
    for at in range(0, length, 17):
        data = bytearray(length)
        data[at] = 1
        assert isinstance(decode_record(memoryview(data), 0, HEADER.seed), Bad)


@pytest.mark.parametrize(
    "other",
    [
        HEADER._replace(space_uuid=b"v" * 16),
        HEADER._replace(segment_id=4),
        HEADER._replace(nonce=b"m" * 16),
    ],
    ids=["space", "segment", "incarnation"],
)
def test_a_record_of_another_segment_does_not_verify(other: SegmentHeader) -> None:
    assert isinstance(decode_record(memoryview(RECORD), 0, other.seed), Bad)
    assert list(find_records(memoryview(RECORD), 0, other.seed)) == []


def test_impossible_sizes_are_bad_even_under_a_right_checksum() -> None:
    for length, events in [(f.PAYLOAD_BYTES_MAX + 1, 1), (0, 0), (0, f.EVENTS_PER_RECORD_MAX + 1)]:
        header = bytearray(RECORD[: f.RECORD_HEADER_BYTES])
        header[4:8] = length.to_bytes(4, "little")
        header[36:40] = events.to_bytes(4, "little")
        from crc32c import crc32c

        crc = f.mask(crc32c(header[: f.RECORD_HEADER_CRC_OFFSET], HEADER.seed))
        header[56:60] = f.CRC.pack(crc)
        assert isinstance(decode_record(memoryview(bytes(header)), 0, HEADER.seed), Bad)


@pytest.mark.parametrize(
    "draft",
    [
        Draft([bytes(f.PAYLOAD_BYTES_MAX), b"1"], 1, 0),
        Draft([], 0, 0),
        Draft([], f.EVENTS_PER_RECORD_MAX + 1, 0),
    ],
    ids=["too long", "no events", "too many events"],
)
def test_a_draft_over_the_bounds_is_refused(draft: Draft) -> None:
    with pytest.raises(RecordTooLarge, match="Split"):
        check_draft(draft)
    with pytest.raises(RecordTooLarge):
        encoded(draft)


def test_the_largest_record_fits() -> None:
    assert check_draft(Draft([bytes(f.PAYLOAD_BYTES_MAX)], f.EVENTS_PER_RECORD_MAX, 0))


def test_records_are_found_behind_anything_but_only_aligned() -> None:
    front = b"\1" * 16
    data = front + RECORD + RECORD[:24] + RECORD
    found = [record.offset for record in find_records(memoryview(data), 0, HEADER.seed)]
    assert found == [16, 16 + len(RECORD) + 24]
    assert list(find_records(memoryview(b"\1" + data), 0, HEADER.seed)) == []


def test_a_record_inside_a_payload_is_not_found_behind_its_bearer() -> None:
    bearer = encoded(Draft([RECORD], 1, 0))
    assert [r.offset for r in find_records(memoryview(bearer), 0, HEADER.seed)] == [0]


@given(st.binary(max_size=400), st.integers(0, 40))
def test_any_bytes_are_a_record_an_end_or_bad(data: bytes, offset: int) -> None:
    found = decode_record(memoryview(data), min(offset, len(data)), HEADER.seed)
    assert isinstance(found, End | Bad)
    assert isinstance(decode_segment_header(data), Bad)


def chained(*times: int) -> bytes:
    """Records of one event each that continue one another, with these times."""
    data, prev_crc = b"", HEADER.seed
    for index, time_ns in enumerate(times):
        buffers, _, prev_crc = encode_record(
            Draft([b"%d" % index], 1, 0),
            position=10 + index,
            time_ns=time_ns,
            synced_position=0,
            prev_crc=prev_crc,
            seed=HEADER.seed,
        )
        data += b"".join(buffers)
    return data


def scanned(data: bytes) -> tuple[int, Record | End | Bad]:
    start = Chain.start(HEADER, time_ns=100, synced_position=0)._replace(offset=0)
    *records, stop = scan(memoryview(data), HEADER, start)
    return len(records), stop


def test_a_scan_takes_what_continues_and_nothing_else() -> None:
    data = chained(100, 100, 200)
    size = len(data) // 3
    assert scanned(data) == (3, End(len(data)))
    for wrong, at in [
        (data[size:], 0),  # the first is missing
        (data[:size] + data[2 * size :], size),  # one within is missing
        (data[:size] + data, size),  # one stands twice
        (chained(100, 99), size),  # time runs backwards
        (chained(99), 0),  # even against the segment before
        (encoded(Draft([], 1, 0), prev_crc=1), 0),  # it continues something else
    ]:
        records, stop = scanned(wrong)
        assert isinstance(stop, Bad)
        assert (records, stop.offset) == (at // size, at)
