"""Links against a plain dict, whatever was sealed, merged or written to a file in between."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.indexes import links as module
from engram.indexes.columns import GrowingColumn
from engram.indexes.links import LinkColumns, Links, LinksView, check_links, no_links

MEMORIES = 6
RELATIONS = ("related", "causes", "größer")


class Model:
    """Memories as lives with a newest row; links by (life, life, relation)."""

    def __init__(self) -> None:
        self.rows: list[int] = []  # the life of each row
        self.newest: dict[int, int] = {}
        self.alive: dict[int, bool] = {}
        self.links: dict[tuple[int, int, str], tuple[float, int]] = {}
        self.told: dict[int, list[int]] = {}

    def add(self, life: int) -> None:
        self.newest[life] = len(self.rows)
        self.alive[life] = True
        self.rows.append(life)

    def around(self, life: int) -> list[tuple[int, float, str, bool, int]]:
        """(newest row at the other end, weight, relation, outward, position), by position."""
        found = [
            (self.newest[other], weight, relation, outward, position)
            for (source, target, relation), (weight, position) in self.links.items()
            for own, other, outward in ((source, target, True), (target, source, False))
            if own == life and self.alive[other]
        ]
        return sorted(found, key=lambda each: each[4])


class Pair:
    """Links and their model, changed together."""

    def __init__(self) -> None:
        self.previous = GrowingColumn(np.int64)
        self.links = Links(self.previous)
        self.model = Model()
        self.roots: list[int] = []
        self.position = 0
        for _ in range(MEMORIES):
            self.begin()

    def begin(self) -> None:
        """A new memory."""
        row = len(self.model.rows)
        self.previous.append(-1)
        self.links.append([row])
        self.model.add(len(self.roots))
        self.roots.append(row)

    def revise(self, life: int) -> None:
        self.previous.append(self.model.newest[life])
        self.links.append([self.roots[life]])
        self.model.add(life)

    def link(self, source: int, target: int, relation: str, weight: float) -> None:
        self.position += 1
        key = source, target, relation
        self.links.put(self.roots[source], self.roots[target], relation, weight, self.position)
        self.model.links[key] = weight, self.position
        self._tell(source, target)

    def unlink(self, source: int, target: int, relation: str) -> None:
        self.position += 1
        ends = self.roots[source], self.roots[target]
        was_there = self.model.links.pop((source, target, relation), None) is not None
        assert self.links.has(*ends, relation) == was_there
        assert self.links.remove(*ends, relation, self.position) == was_there
        assert not self.links.has(*ends, relation)
        if was_there:
            self._tell(source, target)

    def _tell(self, *lives: int) -> None:
        for life in lives:
            self.model.told.setdefault(life, []).append(self.position)

    def view(self) -> LinksView:
        live = np.zeros(len(self.model.rows), np.bool_)
        for life, row in self.model.newest.items():
            live[row] = self.model.alive[life]
        return self.links.view(self.position, live)

    def check(self) -> None:
        view, model = self.view(), self.model
        lives = sorted(life for life, alive in model.alive.items() if alive)
        assert contents(view, [model.newest[life] for life in lives]) == [
            model.around(life) for life in lives
        ]
        for life, root in enumerate(self.roots):
            assert view.positions([root]).tolist() == model.told.get(life, [])

    def through_columns(self) -> None:
        """As after a compaction, which keeps no row but the newest of what lives."""
        lives = sorted((row, life) for life, row in self.model.newest.items())
        kept = [(row, life) for row, life in lives if self.model.alive[life]]
        new_rows = np.full(len(self.model.rows), -1)
        new_rows[[row for row, _ in kept]] = np.arange(len(kept))
        columns, gone = self.view().kept(new_rows)
        check_links(columns, len(kept))
        fresh = Model()
        for _, life in kept:
            fresh.add(life)
        fresh.links = {k: v for k, v in self.model.links.items() if {*k[:2]} <= fresh.alive.keys()}
        assert sorted(gone[:, 2].tolist()) == sorted(
            position for key, (_, position) in self.model.links.items() if key not in fresh.links
        )
        for (source, target, _), (_, position) in sorted(
            fresh.links.items(), key=lambda e: e[1][1]
        ):
            for life in (source, target):
                fresh.told.setdefault(life, []).append(position)
        self.model = fresh
        number = {life: row for row, (_, life) in enumerate(kept)}
        self.roots = [number.get(life, -1) for life in range(len(self.roots))]
        self.previous = GrowingColumn.of(np.full(len(kept), -1))
        self.links = Links.of(columns, len(kept), self.previous)


def contents(view: LinksView, rows: list[int]) -> list[list[tuple[Any, ...]]]:
    """What `around` says, by row."""
    found: list[list[tuple[Any, ...]]] = [[] for _ in rows]
    around = view.around(rows)
    names = view.relations
    assert around.which.tolist() == sorted(around.which.tolist())
    assert around.weights.dtype == np.float32
    assert np.array_equal(around.weights, around.exact.astype(np.float32))
    for which, row, weight, relation, outward, position in zip(
        around.which.tolist(),
        around.rows.tolist(),
        around.exact.tolist(),
        around.relations.tolist(),
        around.outward.tolist(),
        around.positions.tolist(),
        strict=True,
    ):
        found[which].append((row, weight, names[relation], outward, position))
    return found


members = st.integers(0, MEMORIES - 1)
relations = st.sampled_from(RELATIONS)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("link"), members, members, relations, st.sampled_from([0.25, 0.8, 1.0])),
        st.tuples(st.just("link"), members, members, relations, st.sampled_from([0.25, 0.8, 1.0])),
        st.tuples(st.just("unlink"), members, members, relations),
        st.tuples(st.just("revise"), members),
        st.tuples(st.just("end"), members),
        st.tuples(st.just("keep")),
    ),
    max_size=60,
)


def take(pair: Pair, step: tuple[Any, ...]) -> None:
    """One step, if it is one that can be taken."""
    kind, *ends = step
    lives = [end for end in ends[:2] if isinstance(end, int)]
    if kind == "keep":
        pair.through_columns()
    elif not all(pair.model.alive.get(life, False) for life in lives):
        return
    elif kind == "revise":
        pair.revise(lives[0])
    elif kind == "end":
        pair.model.alive[lives[0]] = False
    elif lives[0] != lives[1]:
        (pair.link if kind == "link" else pair.unlink)(*ends)


@given(steps, st.integers(1, 4))
def test_links_are_what_a_dict_would_hold(history: list[tuple[Any, ...]], tail_max: int) -> None:
    with mock.patch.object(module, "TAIL_MAX", tail_max):
        pair = Pair()
        for step in history:
            take(pair, step)
            pair.check()


@given(steps, st.integers(1, 4))
def test_a_view_stays_as_it_was(history: list[tuple[Any, ...]], tail_max: int) -> None:
    with mock.patch.object(module, "TAIL_MAX", tail_max):
        pair = Pair()
        seen = []
        for step in history:
            take(pair, step)
            view, rows = pair.view(), sorted(pair.model.newest.values())
            seen.append((view, rows, contents(view, rows), view.positions(range(MEMORIES))))
        for view, rows, told, positions in seen:
            assert contents(view, rows) == told
            assert np.array_equal(view.positions(range(MEMORIES)), positions)


def test_a_hub_is_found_whole_and_from_each_of_its_ends() -> None:
    count = 100_000
    previous = GrowingColumn(np.int64)
    links = Links(previous)
    previous.extend(np.full(count + 1, -1))
    links.append(range(count + 1))
    for row in range(1, count + 1):
        links.put(0, row, "related", 0.5, row)
    view = links.view(count, np.ones(count + 1, np.bool_))
    around = view.around([0])
    assert around.rows.tolist() == list(range(1, count + 1))
    assert around.outward.all()
    assert view.around([77, 5]).rows.tolist() == [0, 0]
    assert links.remove(0, 77, "related", count + 1)
    after = links.view(count + 1, np.ones(count + 1, np.bool_))
    assert not len(after.around([77]).rows)
    assert len(view.around([77]).rows) == 1


def columns(**changed: Any) -> LinkColumns:
    """Two links between three rows, as a checkpoint holds them."""
    pair = Pair()
    pair.link(0, 1, "related", 0.5)
    pair.link(2, 0, "causes", 1.0)
    made, _ = pair.view().kept(np.arange(MEMORIES))
    return made._replace(**changed)


def test_columns_come_back() -> None:
    made = columns()
    check_links(made, 3)
    check_links(no_links(), 0)
    links = Links.of(made, 3, GrowingColumn.of(np.full(3, -1)))
    view = links.view(2, np.ones(3, np.bool_))
    assert contents(view, [0]) == [[(1, 0.5, "related", True, 1), (2, 1.0, "causes", False, 2)]]


@pytest.mark.parametrize(
    "changed",
    [
        {"sources": np.array([0], np.uint32)},
        {"sources": np.array([2, 0], np.uint32)},
        {"sources": np.array([0, 3], np.uint32)},
        {"targets": np.array([1, 3], np.uint32)},
        {"targets": np.array([0, 0], np.uint32)},
        {"relations": np.array([0, 2], np.uint32)},
        {"weights": np.array([0.5, np.nan])},
        {"weights": np.array([0.0, 1.0])},
        {"weights": np.array([0.5, 1.5])},
        {"by_target": np.array([0, 0], np.uint32)},
        {"by_target": np.array([0, 1], np.uint32)},
        {"by_target": np.array([0, 7], np.uint32)},
        {"names": module._names_of([b"related", b"causes"])},
        {"names": module._names_of([b"causes", b"causes"])},
    ],
    ids=repr,
)
def test_columns_that_are_no_links_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_links(columns(**changed), 3)
