from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.indexes import ids
from engram.indexes.ids import IdIndex, id_hash

memory_ids = st.sampled_from([f"id-{n}" for n in range(30)])


def few_hashes(memory_id: str) -> int:
    """A hash so poor that most ids collide."""
    return 2**64 - 1 - int(memory_id[-1]) % 3


@settings(deadline=None)
@given(
    st.lists(memory_ids, max_size=120),
    st.integers(0, 20),
    st.sampled_from([few_hashes, id_hash, lambda _: 7]),
)
def test_an_id_leads_to_its_latest_row(
    puts: list[str], recent_min: int, hash_of: Callable[[str], int]
) -> None:
    model: dict[str, int] = {}
    with (
        mock.patch.object(ids, "RECENT_MIN", recent_min),
        mock.patch.object(ids, "RECENT_SHARE", 0.2),
    ):
        index = IdIndex(puts.__getitem__, hash_of)
        for row, memory_id in enumerate(puts):
            assert index.get(memory_id) == model.get(memory_id)
            index.put(memory_id, row)
            model[memory_id] = row
            assert index.get(memory_id) == row
    assert all(index.get(name) == model.get(name) for name in [f"id-{n}" for n in range(31)])


def test_many_ids_are_put_in_order() -> None:
    names = [f"id-{n}" for n in range(5000)]
    index = IdIndex(names.__getitem__)
    index.extend((name, row) for row, name in enumerate(names))
    assert [index.get(name) for name in names] == list(range(5000))
    assert index.get("another") is None
    hashes, rows = index._sealed
    assert len(hashes) == len(rows) > 3000
    assert (hashes[1:] >= hashes[:-1]).all()


def test_the_stored_ids_are_asked_only_where_hashes_agree() -> None:
    names = [f"id-{n}" for n in range(3000)]
    asked: list[int] = []

    def id_at(row: int) -> str:
        asked.append(row)
        return names[row]

    index = IdIndex(id_at)
    index.extend((name, row) for row, name in enumerate(names))
    assert asked == []
    assert index.get("nobody") is None
    assert asked == []
    assert index.get("id-5") == 5
    assert asked == [5]


@pytest.mark.parametrize("name", ["é", "日本", "a" * 128])
def test_ids_in_any_script(name: str) -> None:
    index = IdIndex(lambda _: name)
    index.put(name, 3)
    assert index.get(name) == 3
