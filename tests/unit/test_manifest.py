"""The manifest and the frame it stands in."""

from __future__ import annotations

import msgspec
import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from wal.errors import Damaged, Unsupported
from wal.framed import decode_framed, encode_framed
from wal.manifest import (
    Manifest,
    SealedSegment,
    decode_manifest,
    encode_manifest,
    manifest_number,
)

NUMBERS = st.integers(0, 2**63 - 1)
SEALED = st.builds(
    SealedSegment,
    name=st.text(max_size=20),
    segment_id=NUMBERS,
    first_position=NUMBERS,
    next_position=NUMBERS,
    length=NUMBERS,
    final_crc=st.integers(0, 2**32 - 1),
    time_ns=st.integers(0, 2**63 - 1),
)
MANIFESTS = st.builds(
    Manifest,
    number=st.integers(1, 2**63 - 1),
    space_uuid=st.text("0123456789abcdef", min_size=32, max_size=32),
    sealed=st.lists(SEALED, max_size=3).map(tuple),
    active=st.text(max_size=20),
)
MANIFEST = Manifest(
    number=4,
    space_uuid="0" * 32,
    sealed=(
        SealedSegment(
            name="a",
            segment_id=1,
            first_position=1,
            next_position=5,
            length=4_500,
            final_crc=9,
            time_ns=7,
        ),
    ),
    active="b",
)


def framed(body: bytes, version: int = 1, magic: bytes = b"ENGRAM-MANIFEST") -> bytes:
    return b"%s %d %d %08x\n" % (magic, version, len(body), crc32c(body)) + body


@given(MANIFESTS)
def test_a_manifest_comes_back_from_its_file(manifest: Manifest) -> None:
    assert decode_manifest(manifest.name, encode_manifest(manifest)) == manifest


def test_a_person_can_read_a_manifest() -> None:
    text = encode_manifest(MANIFEST).decode()
    assert text.startswith("ENGRAM-MANIFEST 1 ")
    assert '"active": "b"' in text
    assert text.endswith("}\n")


def test_no_single_flipped_bit_passes() -> None:
    data = bytearray(encode_manifest(MANIFEST))
    for bit in range(len(data) * 8):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises((Damaged, Unsupported)):
            decode_manifest(MANIFEST.name, bytes(data))
        data[bit // 8] ^= 1 << bit % 8


def test_no_part_of_a_manifest_passes() -> None:
    data = encode_manifest(MANIFEST)
    for length in range(len(data)):
        with pytest.raises(Damaged):
            decode_manifest(MANIFEST.name, data[:length])
    with pytest.raises(Damaged):
        decode_manifest(MANIFEST.name, data + b"\n")


@pytest.mark.parametrize("name", ["MANIFEST-5", "MANIFEST-40", "manifest-4"])
def test_a_manifest_under_another_name_is_damage(name: str) -> None:
    with pytest.raises(Damaged, match="renamed or copied") as caught:
        decode_manifest(name, encode_manifest(MANIFEST))
    assert caught.value.file == name


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"{",
        b'{"number":4}',
        b'"\xce"',
        b"\xff\xfe",
        b"[" * 100_000,
        msgspec.json.encode({**msgspec.to_builtins(MANIFEST), "later": 1}),
        msgspec.json.encode({**msgspec.to_builtins(MANIFEST), "number": "4"}),
    ],
    ids=lambda body: repr(body[:12]),
)
def test_a_body_of_another_shape_is_damage_though_its_checksum_is_right(body: bytes) -> None:
    with pytest.raises(Damaged, match="cannot be read"):
        decode_manifest("MANIFEST-4", framed(body))


def test_a_newer_version_is_unsupported_but_only_if_it_is_whole() -> None:
    body = b'{"anything": "else"}'
    with pytest.raises(Unsupported, match="Upgrade"):
        decode_manifest("MANIFEST-4", framed(body, version=2))
    with pytest.raises(Damaged):
        decode_manifest("MANIFEST-4", framed(body, version=2)[:-1] + b"x")


@pytest.mark.parametrize("magic", [b"ENGRAM-SPACE", b"ENGRAM-MANIFEST-X", b"X", b""])
def test_another_kind_of_file_is_damage(magic: bytes) -> None:
    body = encode_manifest(MANIFEST).partition(b"\n")[2]
    with pytest.raises(Damaged, match="does not begin"):
        decode_manifest("MANIFEST-4", framed(body, magic=magic))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_damage(data: bytes) -> None:
    for file in (data, framed(data), framed(data, version=7)):
        with pytest.raises((Damaged, Unsupported)):
            decode_manifest("MANIFEST-4", file)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("MANIFEST-1", 1),
        ("MANIFEST-12345", 12_345),
        ("MANIFEST-0", None),
        ("MANIFEST-01", None),
        ("MANIFEST--1", None),
        ("MANIFEST-", None),
        ("MANIFEST-1.tmp", None),
        ("MANIFEST-1\n", None),
        ("MANIFEST-١", None),
        ("manifest-1", None),
        ("MANIFEST-" + "9" * 20, None),
    ],
)
def test_which_names_are_manifests(name: str, number: int | None) -> None:
    assert manifest_number(name) == number


class Document(msgspec.Struct, forbid_unknown_fields=True):
    text: str


@given(st.text(max_size=50))
def test_any_document_comes_back_from_its_frame(text: str) -> None:
    data = encode_framed("X-Y", 12, Document(text))
    assert decode_framed("X-Y", 12, Document, "f", data) == Document(text)
