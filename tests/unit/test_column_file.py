"""Files of columns: what is written comes back, and nothing else is ever taken for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from compaction import columns as columns_module
from compaction.columns import (
    BLOCK_BYTES,
    DTYPES,
    PAGE_BYTES,
    SYNC_STEP_BYTES,
    ColumnFile,
    Identity,
    write_columns,
)
from wal.errors import Damaged, Foreign, Unsupported
from wal.format import mask
from wal.sim_vfs import SimDisk

UUID = bytes(range(16))
IDENTITY = Identity(UUID, 77, 1_000, b"n" * 16)
Columns = list[tuple[str, np.ndarray[Any, Any]]]


def encoded(columns: Columns, identity: Identity = IDENTITY) -> bytes:
    file = SimDisk().root().create("columns")
    length, crc = write_columns(file, identity, columns)
    data = file.read_at(0, file.size())
    assert (len(data), data[-4:]) == (length, crc.to_bytes(4, "little"))
    return data


def opened(data: bytes, uuid: bytes = UUID) -> ColumnFile:
    return ColumnFile("the file", memoryview(data), uuid)


any_array = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays.arrays(np.dtype(dtype), arrays.array_shapes(min_dims=1, min_side=0))
)


@given(columns=st.lists(any_array, max_size=5))
def test_what_is_written_comes_back_bit_for_bit(columns: list[np.ndarray[Any, Any]]) -> None:
    named = [(f"column {i}", values) for i, values in enumerate(columns)]
    file = opened(encoded(named))
    file.verify()
    assert file.identity == IDENTITY
    assert list(file.names) == [name for name, _ in named]
    for name, values in named:
        found = file.column(name)
        assert (found.dtype, found.shape) == (values.dtype.newbyteorder("<"), values.shape)
        assert found.tobytes() == values.astype(values.dtype.newbyteorder("<")).tobytes()
        assert not found.flags.writeable
        assert found.ctypes.data % found.dtype.itemsize == 0 or not found.size


def test_a_large_file_is_synced_as_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = list[int]()
    file = SimDisk().root().create("columns")
    real = type(file).sync_data

    def sync(self: Any) -> None:
        syncs.append(self.size())
        real(self)

    monkeypatch.setattr(type(file), "sync_data", sync)
    values = np.arange(5 * SYNC_STEP_BYTES // 8, dtype=np.int64)
    write_columns(file, IDENTITY, [("small", values[:9]), ("large", values)])
    assert len(syncs) == 5
    assert max(np.diff([0, *syncs])) <= 2 * SYNC_STEP_BYTES
    found = opened(file.read_at(0, file.size())).column("large")
    assert np.array_equal(found, values)


def test_a_big_endian_array_is_stored_as_any_other() -> None:
    values = np.arange(5, dtype=">u4")
    assert opened(encoded([("a", values)])).column("a").tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("values", [np.array(["x"]), np.array([1j]), np.zeros(2, "M8[s]")])
def test_what_has_no_fixed_form_is_refused(values: np.ndarray[Any, Any]) -> None:
    with pytest.raises(ValueError, match="dtype"):
        encoded([("a", values)])


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        encoded([("a", np.zeros(1)), ("a", np.zeros(1))])


SMALL: Columns = [
    ("rows", np.arange(40, dtype=np.uint32)),
    ("vectors", np.arange(24, dtype=np.float32).reshape(6, 4)),
    ("nothing", np.empty((0, 3), np.int64)),
]


def read_all(data: bytes) -> None:
    file = opened(data)
    file.verify()
    for name in file.names:
        file.column(name)


def test_every_length_it_can_be_cut_to_is_refused() -> None:
    data = encoded(SMALL)
    for length in range(len(data)):
        with pytest.raises(Damaged):
            read_all(data[:length])
    with pytest.raises(Damaged):
        read_all(data + b"\0" * 8)


def test_every_flipped_bit_is_found() -> None:
    data = encoded(SMALL)
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << (at % 8)
        with pytest.raises((Damaged, Unsupported)):
            read_all(bytes(flipped))


def test_a_column_is_verified_when_it_is_used_and_no_other() -> None:
    columns: Columns = [(name, np.full(2 * BLOCK_BYTES, 1, np.uint8)) for name in "abc"]
    data = bytearray(encoded(columns))
    data[PAGE_BYTES + 3 * BLOCK_BYTES + 5] ^= 1  # within b
    file = opened(bytes(data))
    assert file.column("a").all()
    assert file.column("c").all()
    with pytest.raises(Damaged, match="a block's checksum") as found:
        file.column("b")
    assert found.value.offset == PAGE_BYTES + 3 * BLOCK_BYTES
    with pytest.raises(Damaged):
        file.verify()


def test_a_column_that_is_not_there_is_damage() -> None:
    with pytest.raises(Damaged, match="no column 'x'"):
        opened(encoded(SMALL)).column("x")


def test_another_space_s_file_is_foreign() -> None:
    with pytest.raises(Foreign):
        opened(encoded(SMALL), bytes(16))


def test_blocks_of_another_file_do_not_fit() -> None:
    """The same space and columns, another position or nonce."""
    data = encoded(SMALL)
    for other in (IDENTITY._replace(position=78), IDENTITY._replace(nonce=b"m" * 16)):
        mixed = data[:PAGE_BYTES] + encoded(SMALL, other)[PAGE_BYTES:]
        with pytest.raises(Damaged):
            read_all(mixed)


def test_a_newer_format_says_so() -> None:
    data = bytearray(encoded(SMALL))
    data[8] = 2
    data[PAGE_BYTES - 4 : PAGE_BYTES] = mask(crc32c(bytes(data[: PAGE_BYTES - 4]))).to_bytes(
        4, "little"
    )
    with pytest.raises(Unsupported, match="Upgrade"):
        opened(bytes(data))


def with_table(table: bytes, *, blocks: int = 1) -> bytes:
    """A page of zeros as columns, and a table and checks that verify, whatever they say."""
    page = bytes(PAGE_BYTES)
    crcs = blocks * mask(crc32c(page, IDENTITY.seed)).to_bytes(4, "little")
    end = 2 * PAGE_BYTES
    trailer = columns_module._encode_trailer(IDENTITY.seed, end, crcs, table)
    return encoded([])[:PAGE_BYTES] + page + crcs + table + trailer


def place(**changes: Any) -> bytes:
    fields = {"name": '"a"', "dtype": '"<u4"', "shape": "[2]", "offset": "4096", **changes}
    return ("{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}").encode()


def test_a_table_that_verifies_and_makes_sense_is_taken() -> None:
    assert opened(with_table(b"[" + place() + b"]")).column("a").tolist() == [0, 0]


# Found by fuzz/columns.py: each of these ended in an error of numpy's, Python's or msgspec's.
@pytest.mark.parametrize(
    "table",
    [
        place(dtype='"<u9"'),
        place(dtype='"object"'),
        place(shape="[-1]"),
        place(shape="[-2,-1]"),
        place(shape="[9223372036854775807]"),
        place(shape="[4294967296,4294967296]"),
        place(shape="[0,4294967296,4294967296]"),
        place(shape="[" + ",".join("0" * 70) + "]"),
        place(offset="4095"),
        place(offset="8190"),
        place() + b"," + place(),
        place(name='"\xff"').replace(b"\xc3\xbf", b"\xff"),
        b"[" * 100_000,
    ],
    ids=lambda table: table[:60].decode("ascii", "replace"),
)
def test_a_table_that_verifies_and_makes_no_sense_is_damage(table: bytes) -> None:
    with pytest.raises(Damaged):
        read_all(with_table(b"[" + table + b"]"))


@pytest.mark.parametrize("blocks", [0, 2])
def test_checks_that_are_too_few_or_too_many_are_damage(blocks: int) -> None:
    with pytest.raises(Damaged):
        read_all(with_table(b"[" + place() + b"]", blocks=blocks))
