"""docs/FORMAT.md against the code: its examples decode to what it says, its tables are true."""

from __future__ import annotations

import json
import re
from pathlib import Path
from struct import Struct
from typing import Final, get_args

import numpy as np
import pytest
from crc32c import crc32c

from compaction.columns import PAGE_BYTES, write_columns
from compaction.columns import Identity as Columns
from engram.memory.columns import compact
from engram.memory.events import Event, MemoryStored, SpaceCreated
from engram.memory.model import EmbeddingSpec
from engram.memory.payload import Batch, decode_batch, encode_batch
from engram.memory.state import State
from engram.spaces import identity as space_file
from engram.spaces.identity import Identity, read_identity
from engram.spaces.registry import Registry
from engram.spaces.trash import ReceiptFile, Tombstone, Trash
from wal import format as f
from wal.codec import (
    Bad,
    Draft,
    End,
    Record,
    SegmentHeader,
    decode_segment_header,
    encode_record,
    encode_segment_header,
)
from wal.manifest import Manifest, SealedSegment, decode_manifest, encode_manifest
from wal.recovery import Append, Later, Plan, Refuse, SetAside, TailSeen, plan_tail
from wal.segment import Chain, scan
from wal.sim_vfs import SimDisk

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "FORMAT.md"
TEXT: Final = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else ""

# The example: a space of two dimensions that holds one memory.
UUID: Final = bytes(range(16))
NONCE: Final = bytes(range(0xA0, 0xB0))
CREATED_US: Final = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
HEADER: Final = SegmentHeader(UUID, 1, 1, NONCE, 0, 0, 0, CREATED_US * 1_000)
BATCHES: Final = [
    Batch(
        [
            SpaceCreated(
                memory_space_id="demo", generation=1, embedding_model="caller", dimensions=2
            )
        ],
        np.empty((0, 0), np.float32),
    ),
    Batch(
        [
            MemoryStored(
                id="m1",
                revision=1,
                kind="episode",
                content="tea at four",
                tags=("tea",),
                metadata={},
                confidence=1.0,
                occurred_us=None,
                expires_us=None,
                source=None,
            )
        ],
        np.array([[0.6, 0.8]], np.float32),
    ),
]
ACTIVE: Final = "00000000000000000003-0000000002.seg"
IDENTITY: Final = Identity(
    memory_space_id="demo",
    uuid=UUID.hex(),
    generation=1,
    created_us=CREATED_US,
    embedding=EmbeddingSpec(model="caller", dimensions=2),
)


def segment() -> bytes:
    """The example's segment, as this version writes it."""
    data, prev_crc = encode_segment_header(HEADER), HEADER.seed
    for position, batch in enumerate(BATCHES, start=1):
        time_ns = (CREATED_US + 1_000_000 * (position - 1)) * 1_000
        buffers, _, prev_crc = encode_record(
            Draft(encode_batch(batch), 1, time_ns),
            position=position,
            time_ns=time_ns,
            synced_position=position - 1,
            prev_crc=prev_crc,
            seed=HEADER.seed,
        )
        data += b"".join(buffers)
    return data


def manifest() -> Manifest:
    data = segment()
    *_, last, _ = scan(memoryview(data), HEADER, Chain.start(HEADER, time_ns=0, synced_position=0))
    assert isinstance(last, Record)
    sealed = SealedSegment(
        name=HEADER.name,
        segment_id=1,
        first_position=1,
        next_position=3,
        length=len(data),
        final_crc=last.payload_crc,
        time_ns=last.time_ns,
    )
    return Manifest(number=2, space_uuid=UUID.hex(), sealed=(sealed,), active=ACTIVE)


def layout_json() -> bytes:
    """The file that a new data root gets, as this version writes it."""
    disk = SimDisk()
    Registry(disk.root(), owner="a test", clock=lambda: CREATED_US * 1_000).close()
    control = disk.contents()[".engram"]
    assert isinstance(control, dict)
    data = control["layout.json"]
    assert isinstance(data, bytes)
    return data


def block(title: str) -> str:
    """The fenced block behind the paragraph that ends in that title."""
    match = re.search(rf"{re.escape(title)}:\n\n```\w*\n(.*?)```", TEXT, re.DOTALL)
    assert match is not None, f"the document has no block {title!r}"
    return match[1]


def dumped(text: str, size: int | None = None) -> bytes:
    """The bytes of a hex dump; lines that are left out are zeros."""
    data = bytearray(size or 0)
    for line in text.splitlines():
        match = re.fullmatch(r"([0-9a-f]{4})  ((?:[0-9a-f]{2} ?)+) *(?:\|.*\|)?", line)
        if match is None:
            assert line.strip() == "…", line
            continue
        piece = bytes.fromhex(match[2])
        start = int(match[1], 16)
        data.extend(bytes(max(0, start - len(data))))
        data[start : start + len(piece)] = piece
    return bytes(data)


def dump(data: bytes, start: int = 0) -> str:
    """What `dumped` reads; zeros are left out as in `hexdump`."""
    lines: list[str] = []
    for at in range(0, len(data), 16):
        piece = data[at : at + 16]
        text = "".join(chr(byte) if 32 < byte < 127 else "." for byte in piece)
        line = f"{start + at:04x}  {piece.hex(' '):<47}  |{text}|" if any(piece) else "…"
        if lines[-1:] != ["…"] or line != "…":
            lines.append(line)
    return "\n".join(lines) + "\n"


def example_segment() -> bytes:
    header = dumped(block("The segment's header page"), f.SEGMENT_HEADER_BYTES)
    records = dumped(block("The two records that follow it"))
    return header + records[f.SEGMENT_HEADER_BYTES :]


def test_the_example_segment_is_what_is_written_today() -> None:
    assert example_segment() == segment()


def test_the_example_header_decodes_to_what_the_document_says() -> None:
    header = decode_segment_header(example_segment())
    assert header == HEADER
    assert f"seed `{HEADER.seed:#010x}`" in TEXT


def test_the_example_records_decode_to_what_the_document_says() -> None:
    data = example_segment()
    chain = Chain.start(HEADER, time_ns=0, synced_position=0)
    *records, stop = scan(memoryview(data), HEADER, chain)
    assert stop == End(len(data))
    assert [record.position for record in records if isinstance(record, Record)] == [1, 2]
    for record, expected in zip(records, BATCHES, strict=True):
        assert isinstance(record, Record)
        batch = decode_batch(record.payload)
        assert batch.events == expected.events
        assert batch.vectors.tolist() == expected.vectors.tolist()
        assert f"`{record.payload_crc:#010x}`" in TEXT


def test_the_example_manifest_is_what_is_written_today_and_decodes() -> None:
    data = block("A manifest").encode()
    assert decode_manifest("MANIFEST-2", data) == manifest()
    assert encode_manifest(manifest()) == data


def test_the_example_space_json_is_what_is_written_today_and_decodes() -> None:
    data = block("A `space.json`").encode()
    folder = SimDisk().root()
    space_file.write_identity(folder, IDENTITY)
    file = folder.open(space_file.IDENTITY_NAME)
    assert file.read_at(0, file.size()) == data
    assert read_identity(folder, "demo") == IDENTITY


def test_the_example_layout_json_is_what_is_written_today_and_decodes() -> None:
    data = block("A `layout.json`").encode()
    assert layout_json() == data
    disk = SimDisk()
    control = disk.root().make_dir(".engram")
    control.make_dir("tmp")
    control.create("layout.json").write_at(0, data)
    Registry(disk.root(), owner="a test").close()  # refuses a layout that it cannot read


def test_the_examples_of_what_deleted_spaces_leave_are_what_is_written_today() -> None:
    uuid, day_us = UUID.hex(), 86_400_000_000
    disk = SimDisk()
    kept = Trash(disk.root())
    tombstone = Tombstone(
        memory_space_id="demo",
        uuid=uuid,
        generation=1,
        deleted_us=CREATED_US,
        purge_after_us=CREATED_US + 7 * day_us,
    )
    receipt = ReceiptFile(
        memory_space_id="demo",
        uuid=uuid,
        generation=1,
        deleted_us=CREATED_US,
        purged_us=CREATED_US + day_us,
        files=5,
        bytes=4984,
    )
    kept.write_tombstone(tombstone)
    kept.raise_generation("demo", 1)
    kept.write_receipt(receipt)
    assert disk.contents() == {
        "trash": {f"demo.{uuid}.json": block("A tombstone").encode()},
        "generations": {"demo": block("A generation").encode()},
        "receipts": {"demo-1.json": block("A receipt").encode()},
    }
    assert kept.tombstone("demo", uuid) == tombstone
    assert kept.generation("demo") == 1
    assert kept.receipt("demo", 1) == receipt


def test_the_document_names_every_event() -> None:
    named = set(re.findall(r'^    \["([a-z.]+)"', TEXT, re.MULTILINE))
    assert named == {kind.__struct_config__.tag for kind in get_args(Event)}


def rows(title: str) -> list[list[str]]:
    """The cells of the first table behind the line that ends in that title."""
    _, found, behind = TEXT.partition(f"{title}\n" if f"# {title}\n" in TEXT else f"{title}:\n")
    assert found, f"the document has no {title!r}"
    lines = behind[behind.index("\n|") :].strip().split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[2:]]


@pytest.mark.parametrize(
    ("title", "layout", "size"),
    [
        ("Segment header", f.SEGMENT_HEADER, f.SEGMENT_HEADER_BYTES),
        ("Record header", f.RECORD_HEADER, f.RECORD_HEADER_BYTES),
        ("Payload head", Struct("<BBHIII"), 16),
        ("Checkpoint header page", Struct("<8sHHI16sQQ16s"), PAGE_BYTES),
        ("Checkpoint trailer", Struct("<8sQQQII20sI"), 64),
    ],
)
def test_the_offset_tables_follow_from_the_layouts(title: str, layout: Struct, size: int) -> None:
    codes = re.findall(r"\d*[sBHIQ]", layout.format.lstrip("<"))
    offset, expected = 0, []
    for code in codes:
        length = Struct("<" + code).size
        expected.append((offset, length))
        offset += length
    found = [(int(row[0]), int(row[1])) for row in rows(title)]
    assert found[: len(expected)] == expected
    end = expected[-1][0] + expected[-1][1]
    for at, length in found[len(expected) :]:
        assert at == end, "the table has a gap"
        end = at + length
    assert end == size


def test_the_columns_of_a_checkpoint_are_those_that_are_written() -> None:
    state = State("demo", 2)
    for position, batch in enumerate(BATCHES, 1):
        state.apply(batch, position, CREATED_US * 1_000)
    state.publish()
    written = [(name, column.dtype.str) for name, column in compact(state.freeze()).named()]
    table = rows("The columns of a checkpoint")
    named = [(row[0].strip("`"), row[1].strip("`").replace("\\|", "|")) for row in table]
    assert named == written


def test_a_checkpoint_can_be_read_by_what_the_document_says() -> None:
    """With the document's numbers alone, and no code of ours but CRC-32C."""
    file = SimDisk().root().create("checkpoint")
    columns = [("position", np.array([7], np.int64)), ("live", np.array([True, False]))]
    length, crc = write_columns(file, Columns(UUID, 7, CREATED_US * 1_000, NONCE), columns)
    data = file.read_at(0, file.size())
    assert len(data) == length
    assert int.from_bytes(data[-4:], "little") == crc

    def masked(crc: int) -> int:
        return ((crc >> 15 | crc << 17) + 0xA282EAD8) % (1 << 32)

    def number(offset: int, size: int, within: bytes) -> int:
        return int.from_bytes(within[offset : offset + size], "little")

    def magic(title: str) -> bytes:
        return bytes.fromhex(rows(title)[0][3].strip("`"))

    page, trailer = data[:4096], data[-64:]
    assert page[:8] == magic("Checkpoint header page")
    assert trailer[:8] == magic("Checkpoint trailer")
    assert number(4092, 4, page) == masked(crc32c(page[:4092]))
    seed = crc32c(page[16:32] + page[32:40] + page[48:64])
    assert number(60, 4, trailer) == masked(crc32c(trailer[:60], seed))
    end, blocks, size = (number(at, 8, trailer) for at in (8, 16, 24))
    checks, table = data[end : end + 4 * blocks], data[end + 4 * blocks : -64]
    assert len(table) == size
    assert number(32, 4, trailer) == masked(crc32c(checks, seed))
    assert number(36, 4, trailer) == masked(crc32c(table, seed))
    (check,) = (masked(crc32c(data[4096:end][at : at + 65_536], seed)) for at in (0,))
    assert number(0, 4, checks) == check
    position, live = json.loads(table)
    assert (position["name"], position["dtype"], position["shape"]) == ("position", "<i8", [1])
    assert number(position["offset"], 8, data) == 7
    assert data[live["offset"] : live["offset"] + 2] == b"\1\0"


def test_the_limits_in_the_document_are_those_of_the_code() -> None:
    for value in (f.PAYLOAD_BYTES_MAX, f.EVENTS_PER_RECORD_MAX, f.SEGMENT_HEADER_BYTES):
        assert f"{value:,}".replace(",", " ") in TEXT.replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert f"`{f.SEGMENT_MAGIC.hex(' ')}`" in TEXT
    assert f"`{f.RECORD_MAGIC.hex(' ')}`" in TEXT
    check = crc32c(b"123456789")
    assert f"`{check:#010x}`" in TEXT
    assert f"`{f.mask(check):#010x}`" in TEXT


PLANS: Final[dict[str, type[Plan]]] = {"append": Append, "set aside": SetAside, "refuse": Refuse}


def test_the_table_of_plans_is_the_plan() -> None:
    table = rows("What to do about the end of the last segment")
    seen = set()
    for stops_at, durable, proof, plan, _ in table:
        stop = End(5_000) if stops_at == "zeros or nothing" else Bad(5_000, "bad")
        for durable_position in {"less than P": [0, 6], "P or more": [7, 90], "any": [0, 6, 7, 90]}[
            durable
        ]:
            for later in {"no": [[], [6, 6]], "yes": [[7], [6, 90]], "any": [[], [6], [7]]}[proof]:
                behind = [Later(6_000, 8, position) for position in later]
                made = plan_tail(TailSeen(stop, 7, durable_position, behind))
                assert isinstance(made, PLANS[plan]), (stops_at, durable, proof)
                seen.add((stops_at, durable_position, tuple(later)))
    assert {(s, d) for s, d, _ in seen} == {
        (s, d) for s in ("zeros or nothing", "anything else") for d in (0, 6, 7, 90)
    }


if __name__ == "__main__":  # prints the examples, for whoever has to write them anew
    whole = segment()
    print(dump(whole[: f.SEGMENT_HEADER_BYTES]))
    print(dump(whole[f.SEGMENT_HEADER_BYTES :], f.SEGMENT_HEADER_BYTES))
    print(f"{HEADER.seed:#010x}", encode_manifest(manifest()).decode())
    disk_root = SimDisk().root()
    space_file.write_identity(disk_root, IDENTITY)
    written = disk_root.open("space.json")
    print(written.read_at(0, written.size()).decode())
    print(layout_json().decode())
    print(f"{crc32c(b'123456789'):#010x} {f.mask(crc32c(b'123456789')):#010x}")
