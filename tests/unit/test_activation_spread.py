"""What a recall lit is an event behind its own, in the same record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import engram
from engram import limits


@pytest.fixture
def alpha(tmp_path: Path) -> Iterator[engram.Space]:
    with engram.open(tmp_path / "data") as db:
        yield db.create_space("alpha")


def told(space: engram.Space, **how: Any) -> list[engram.Event]:
    """What a recall leaves on record, all of it: recalls are recorded with the next write."""
    before = space.info().position or 0
    space.recall("zebra crossing", **how)
    space.remember("something else")
    return list(space.events(after=before))[:-1]


def talk(space: engram.Space, *lines: str) -> None:
    for number, line in enumerate(lines):
        space.remember(line, id=f"m{number}", source="talk")


def test_what_was_lit_stands_behind_the_recall(alpha: engram.Space) -> None:
    talk(alpha, "zebra crossing", "blue paint", "at lunch", "in Paris", "by train")
    recalled, spread = told(alpha)
    assert (recalled.type, spread.type) == ("memory.recalled", "activation.spread")
    assert spread.recall_id == recalled.recall_id
    assert (spread.position, spread.time) == (recalled.position + 1, recalled.time)
    lit = spread.activated
    assert lit is not None
    assert [each.activation for each in lit] == sorted((a.activation for a in lit), reverse=True)
    assert {"m1": 1, "m3": 2}.items() <= {each.id: each.hop for each in lit}.items()
    assert all(0 < each.activation <= 1 for each in lit)


def test_the_hop_is_the_length_of_the_strongest_path(alpha: engram.Space) -> None:
    talk(alpha, "zebra crossing", "blue paint", "at lunch", "in Paris", "by train")
    hops = {
        hit.memory.id: len(hit.why.path)
        for hit in alpha.recall("zebra", explain=True, record=False)
        if hit.why and hit.why.path
    }
    before = alpha.info().position or 0
    alpha.recall("zebra")
    alpha.remember("something else")
    (spread,) = alpha.events(after=before, types=["activation.spread"])
    assert len(hops) > 2
    assert hops.items() <= {each.id: each.hop for each in spread.activated or ()}.items()


@pytest.mark.parametrize(
    ("how", "types"),
    [
        ({"mode": "hybrid"}, ["memory.recalled"]),
        ({"spread": engram.Spread(max_hops=0)}, ["memory.recalled"]),
        ({"record": False}, []),
    ],
)
def test_where_nothing_was_lit_nothing_is_told_of_it(
    alpha: engram.Space, how: dict[str, Any], types: list[str]
) -> None:
    talk(alpha, "zebra crossing", "blue paint")
    assert [event.type for event in told(alpha, **how)] == types


def test_a_memory_alone_lights_nothing(alpha: engram.Space) -> None:
    alpha.remember("zebra crossing")
    assert [event.type for event in told(alpha)] == ["memory.recalled"]


def test_no_more_than_a_limit_is_told(alpha: engram.Space, monkeypatch: pytest.MonkeyPatch) -> None:
    talk(alpha, *(f"zebra {word}" for word in ("one", "two", "three", "four", "five", "six")))
    everything = told(alpha)[1].activated or ()
    assert len(everything) > 3
    monkeypatch.setattr(limits, "ACTIVATED_IDS_RECORDED_MAX", 3)
    assert [each.id for each in told(alpha)[1].activated or ()] == [e.id for e in everything[:3]]
