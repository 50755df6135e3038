"""Where a memory of a shared space goes: one table for ways, one for what cannot be decided."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.errors import Malformed, SpaceInvalid
from engram.memory.model import Memory
from engram.migrate import routing
from engram.migrate.routing import Route, Routes, by_of, space_id_of
from engram.spaces.ids import check_space_id


def memory(**fields: Any) -> Memory:
    given = {"tags": (), "metadata": {}, "source": None, **fields}
    return Memory(
        id="m",
        memory_space_id="shared",
        kind="episode",
        content="x",
        confidence=1.0,
        occurred_at=None,
        expires_at=None,
        stored_at=datetime(2026, 1, 1, tzinfo=UTC),
        revision=1,
        position=1,
        **given,
    )


def agent(value: object) -> Memory:
    return memory(metadata={"agent": value})


@pytest.mark.parametrize(
    ("by", "options", "given", "went"),
    [
        ("metadata.agent", {}, agent("planner"), Route(("planner",), "planner")),
        ("metadata.agent", {}, agent("Zoë Ünal"), Route(("zoe-unal",), "Zoë Ünal")),
        ("metadata.agent", {}, agent(7), Route(("7",), "7")),
        ("metadata.agent", {"pattern": "a-{value}"}, agent(True), Route(("a-true",), "true")),
        ("metadata.agent", {"mapping": {"Q": "quinn"}}, agent("Q"), Route(("quinn",), "Q")),
        ("metadata.agent", {}, agent(None), Route(stays=routing.NO_VALUE)),
        ("metadata.agent", {}, memory(), Route(stays=routing.NO_VALUE)),
        ("metadata.agent", {}, agent(""), Route(stays=routing.NO_VALUE)),
        ("metadata.agent", {"rest": "rest"}, memory(), Route(("rest",))),
        ("metadata.agent", {"rest": "shared"}, memory(), Route(stays=routing.HERE)),
        ("metadata.agent", {}, agent({"name": "x"}), Route(stays=routing.UNUSABLE)),
        ("metadata.agent", {}, agent(["a", {}]), Route(stays=routing.UNUSABLE)),
        ("metadata.agent", {}, agent("Shared"), Route(stays=routing.HERE, value="Shared")),
        ("tag", {}, memory(tags=("ops",)), Route(("ops",), "ops")),
        ("tag", {}, memory(tags=("a", "b")), Route(stays=routing.SEVERAL)),
        ("tag", {"several": "each"}, memory(tags=("a", "b")), Route(("a", "b"), "a, b")),
        ("tag", {"several": "rest", "rest": "r"}, memory(tags=("a", "b")), Route(("r",))),
        ("tag", {"prefix": "to:"}, memory(tags=("to:a", "b")), Route(("a",), "a")),
        ("tag", {"mapping": {"a": "x", "b": "x"}}, memory(tags=("a", "b")), Route(("x",), "a, b")),
        ("source", {}, memory(source="chat/42"), Route(("chat-42",), "chat/42")),
    ],
)
def test_each_memory_has_one_way(by: str, options: Any, given: Memory, went: Route) -> None:
    routes = Routes("shared", by_of(by), **options)
    assert routes.of(given) == went
    assert routes.problems == {}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (["Ann", "ann"], "'Ann' makes the same id"),
        (["日本"], "no letter or digit"),
        (["x" * 65], "at most 64"),
        (["con"], "Windows reserves"),
        (["quinn"], "that is where others were sent"),
        (["rest"], "that is where others were sent"),
    ],
)
def test_what_cannot_be_decided_is_a_problem_and_not_a_guess(
    values: list[str], problem: str
) -> None:
    routes = Routes("shared", by_of("metadata.agent"), mapping={"Q": "quinn"}, rest="rest")
    for value in values:
        routes.of(agent(value))
    assert [*routes.problems] == [values[-1]]
    assert problem in routes.problems[values[-1]].reason


@given(st.text())
def test_what_a_value_makes_is_a_space_id_or_is_refused(value: str) -> None:
    try:
        made = space_id_of(value)
    except SpaceInvalid:
        return
    assert check_space_id(made) == made


@pytest.mark.parametrize("by", ["", "metadata", "metadata.", "tags", "tag.x", "source.y", "agent"])
def test_other_fields_do_not_decide(by: str) -> None:
    with pytest.raises(Malformed, match="is not known; use metadata"):
        by_of(by)


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(Malformed, match="needs --rest"):
        Routes("shared", by_of("tag"), several="rest")
    with pytest.raises(Malformed, match="where the value goes"):
        Routes("shared", by_of("tag"), pattern="agents")
    with pytest.raises(SpaceInvalid):
        Routes("shared", by_of("tag"), rest="No Space")


def test_more_spaces_than_anybody_means_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "SPACES_MAX", 3)
    routes = Routes("shared", by_of("source"))
    for number in range(3):
        routes.of(memory(source=f"s{number}"))
    with pytest.raises(Malformed, match="hardly"):
        routes.of(memory(source="s3"))
