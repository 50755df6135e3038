"""Space ids: what is one, what is not, and what is minted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.errors import SpaceInvalid
from engram.spaces.ids import check_space_id, mint_space_id

SPACE_ID = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True)


@pytest.mark.parametrize("text", ["a", "0", "alpha", "a-b_c", "0-", "a_", "com", "lpt10", "a" * 64])
def test_valid_ids_are_returned_as_they_are(text: str) -> None:
    assert check_space_id(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A",
        "alphA",
        "-a",
        "_a",
        ".",
        "..",
        ".engram",
        "a.b",
        "a/b",
        "a\\b",
        "a b",
        " a",
        "a\n",
        "a\0",
        "ä",
        "ａ",
        "а",  # Cyrillic
        "٣",
        "a\u0301",
        "🙂",
        "\ud800",
        "lost+found",
        "a" * 65,
        "a" * 100_000,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(SpaceInvalid) as caught:
        check_space_id(text)
    assert len(caught.value.detail) < 300


@pytest.mark.parametrize("text", ["con", "prn", "aux", "nul", "com0", "com9", "lpt0", "lpt1"])
def test_names_that_windows_reserves_are_refused(text: str) -> None:
    with pytest.raises(SpaceInvalid, match="Windows"):
        check_space_id(text)


@pytest.mark.parametrize("value", [None, 5, b"alpha", ["alpha"], 1.0, True])
def test_what_is_not_text_is_refused_by_its_type(value: object) -> None:
    with pytest.raises(SpaceInvalid, match="is a string"):
        check_space_id(value)


@given(st.text(max_size=70))
def test_an_id_that_passes_is_a_harmless_file_name(text: str) -> None:
    try:
        checked = check_space_id(text)
    except SpaceInvalid:
        return
    assert checked == text == text.lower()
    assert checked.isascii()
    assert not set(checked) & set("./\\ \0")


@given(st.binary(min_size=16, max_size=16))
def test_minted_ids_are_valid(randomness: bytes) -> None:
    assert check_space_id(mint_space_id(randomness)).startswith("m-")


@given(st.integers(0, (1 << 80) - 1), st.integers(0, (1 << 80) - 1))
def test_different_randomness_mints_different_ids(first: int, second: int) -> None:
    same = mint_space_id(first.to_bytes(16)) == mint_space_id(second.to_bytes(16))
    assert same == (first == second)
