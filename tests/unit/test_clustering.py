"""Clusters against a slow agglomeration, whatever the order, and where vectors are all alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.cognition import clustering
from engram.cognition.clustering import LIKE, clusters, connected, nearest, unit_rows

Floats = npt.NDArray[np.float32]


def groups(sizes: list[int], *, alike: float = 0.85, dimensions: int = 64, seed: int = 1) -> Floats:
    """Unit vectors in groups whose members have about that cosine with one another, float32."""
    random = np.random.default_rng(seed)
    middles = unit_rows(random.standard_normal((len(sizes), dimensions)).astype(np.float32))
    own = unit_rows(random.standard_normal((sum(sizes), dimensions)).astype(np.float32))
    which = np.repeat(np.arange(len(sizes)), sizes)
    return unit_rows(np.sqrt(alike) * middles[which] + np.sqrt(1 - alike) * own)


def found(units: Floats, members_min: int = 3) -> set[frozenset[int]]:
    return {frozenset(members.tolist()) for members in clusters(units, members_min)}


def test_groups_are_found_whole_and_what_is_alone_is_left() -> None:
    sizes = [3, 2, 12, 1, 40]
    ends = np.cumsum(sizes)
    expected = {
        frozenset(range(end - size, end)) for size, end in zip(sizes, ends, strict=True) if size > 2
    }
    assert found(groups(sizes)) == expected


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_vectors_makes_no_difference(seed: int) -> None:
    """Where no two similarities are equal; of equal ones the first counts."""
    units = groups([4, 7, 3, 9, 1, 1], alike=0.7, seed=seed)
    order = np.random.default_rng(seed).permutation(len(units))
    shuffled = {frozenset(order[list(each)].tolist()) for each in found(units[order])}
    assert shuffled == found(units)


def test_how_products_are_blocked_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    units = groups([5, 30, 8, *[1] * 40], alike=0.7)
    whole = found(units)
    monkeypatch.setattr(clustering, "_BLOCK_BYTES", 1)
    monkeypatch.setattr(clustering, "_BLOCK_ROWS_MIN", 3)
    assert found(units) == whole


@pytest.mark.parametrize("count", [1, 2, 3, 500])
def test_equal_vectors_are_one_cluster(count: int) -> None:
    units = np.repeat(groups([1]), count, axis=0)
    assert found(units) == ({frozenset(range(count))} if count > 2 else set())


def test_equally_alike_ones_are_one_cluster() -> None:
    count = 300
    units = unit_rows(np.hstack((np.full((count, 1), 1.6), np.eye(count))).astype(np.float32))
    assert found(units) == {frozenset(range(count))}


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_make_none(count: int) -> None:
    assert clusters(groups([1] * count) if count else np.empty((0, 4), np.float32), 3) == []


def test_a_chain_is_no_cluster_beyond_what_its_mean_holds() -> None:
    """Each is like the next one; the first is unlike the last."""
    turns = np.linspace(0, 3, 200, dtype=np.float32)
    units = np.column_stack((np.cos(turns), np.sin(turns))).astype(np.float32)
    for members in clusters(units, 3):
        own = units[members].astype(np.float64)
        assert (own @ own.mean(0) >= LIKE - 1e-5).all()


@given(st.integers(0, 1_000), st.integers(1, 25))
def test_every_member_is_alike_enough_on_average(seed: int, count: int) -> None:
    units = groups([count, 3, 1], alike=0.66, dimensions=8, seed=seed)
    seen = list[int]()
    for members in clusters(units, 2):
        own = units[members].astype(np.float64)
        assert (np.round(own @ own.mean(0), 5) >= LIKE).all()
        assert members.tolist() == sorted(members.tolist())
        seen += members.tolist()
    assert len(seen) == len(set(seen))


@given(st.integers(0, 1_000))
def test_what_is_connected_is_clustered_as_in_the_whole(seed: int) -> None:
    """The reason why only that is looked at again which something new leads to."""
    units = groups([6, 4, 3, 1, 1, 2], alike=0.7, dimensions=8, seed=seed)
    seeds = np.zeros(len(units), np.bool_)
    seeds[seed % len(units)] = True
    part = np.flatnonzero(connected(units, seeds))
    inside = {frozenset(part[list(each)].tolist()) for each in found(units[part])}
    assert inside == {each for each in found(units) if each & set(part.tolist())}


def test_the_nearest_mean_is_found_and_none_that_is_not_near() -> None:
    units = groups([3, 3])
    means = np.array([units[:3].mean(0), units[3:].mean(0)], np.float64)
    assert nearest(units, means).tolist() == [0, 0, 0, 1, 1, 1]
    assert nearest(units, means[:1]).tolist() == [0, 0, 0, -1, -1, -1]
    assert nearest(units, means[:0]).tolist() == [-1] * 6


def test_what_has_no_direction_is_no_cluster() -> None:
    assert found(unit_rows(np.zeros((5, 4), np.float32))) == set()
