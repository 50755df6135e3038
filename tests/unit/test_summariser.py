"""Summaries by a model, through consolidation, against a real server that plays its part."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import engram
from engram.embedding import openai, summariser
from engram.embedding.summariser import OpenAISummariser, configured
from engram.errors import Invalid, Unavailable
from engram.spaces.space import Space
from tests.unit.conftest import wait_until
from tests.unit.test_consolidation import CALLER, beliefs, near, space, tell, tended
from tests.unit.test_embedding_openai import (
    KEY,
    Behaviour,
    Handler,
    Server,
    hang_up,
    says,
    server,
    stall,
)

__all__ = ["server", "space", "tended"]  # fixtures

NAME = "openai:test-model"
WRITTEN = "Topic 0 came up again and again."


def writes(content: object) -> Behaviour:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}}
    return says(200, {"object": "chat.completion", "choices": [choice], "usage": {}})


@pytest.fixture(autouse=True)
def writer(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, as one that writes summaries, and the environment that asks it to."""
    server.always = writes(WRITTEN)
    monkeypatch.setenv(summariser.VARIABLE, NAME)
    return server


def refusal(space: Space, *, dry_run: bool = False) -> str:
    before = space.info().position
    with pytest.raises(Unavailable) as caught:
        space.consolidate(dry_run=dry_run)
    error = caught.value
    assert KEY not in f"{error!r} {error} {error.detail} {error.__cause__!r}"
    assert (space.info().position, beliefs(space)) == (before, [])
    return error.detail


def test_a_belief_says_what_the_model_wrote_and_rests_on_every_note(
    server: Server, space: Space
) -> None:
    ids = tell(space, 0, 1, 2, 3)
    (belief,) = space.consolidate()
    assert (belief.content, belief.summariser) == (WRITTEN, NAME)
    assert [source.id for source in belief.sources] == ids
    whole = [engram.Citation(each, 0, len(WRITTEN)) for each in ids]
    assert list(belief.citations) == whole
    assert space.get(belief.id).content == WRITTEN
    told = space.history(belief.id)[-1]
    assert (told.type, told.summariser) == ("memory.consolidated", NAME)
    assert told.citations == belief.citations
    assert len(server.requests) == 1


def test_the_request_says_what_the_protocol_asks_for(server: Server, space: Space) -> None:
    tell(space, 0, 1, 2, 3)
    space.consolidate()
    [(path, headers, body)] = server.requests
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body == {
        "model": "test-model",
        "messages": [
            {"role": "system", "content": summariser.ASKED},
            {
                "role": "user",
                "content": "\n\n".join(f"{n}. Topic 0, number {n}." for n in (1, 2, 3)),
            },
        ],
        "temperature": 0,
    }


def test_each_belief_is_one_request_and_nothing_new_is_none(server: Server, space: Space) -> None:
    tell(space, 0, 1, 2, 3)
    tell(space, 1, 1, 2, 3)
    assert len(space.consolidate()) == 2
    assert len(server.requests) == 2
    tell(space, 2, 1)
    assert len(space.consolidate()) == len(space.consolidate(dry_run=True)) == 0
    assert len(server.requests) == 2
    tell(space, 0, 4)
    (belief,) = space.consolidate()
    assert (belief.action, len(server.requests)) == ("revised", 3)


def test_replaying_asks_nobody(server: Server, tmp_path: Path) -> None:
    with engram.open(tmp_path) as db:
        space = db.create_space("kept", embedding=CALLER)
        tell(space, 0, 1, 2, 3)
        (belief,) = space.consolidate()
    server.kill()
    with engram.open(tmp_path) as db:
        space = db.space("kept")
        assert space.get(belief.id).content == WRITTEN
        assert space.history(belief.id)[-1].summariser == NAME
        assert space.consolidate().beliefs == ()
    assert len(server.requests) == 1


def test_a_dry_run_asks_too_and_stores_nothing(server: Server, space: Space) -> None:
    tell(space, 0, 1, 2, 3)
    before = space.info().position
    (belief,) = space.consolidate(dry_run=True)
    assert (belief.content, belief.summariser, belief.revision) == (WRITTEN, NAME, None)
    assert (len(server.requests), space.info().position) == (1, before)
    server.always = says(401, {"error": {"message": f"Incorrect API key: {KEY}"}})
    assert "[secret]" in refusal(space, dry_run=True)


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (says(500, {"error": {"message": f"out of order {KEY}"}}), "500: out of order [secret]"),
        (says(404, {"error": "no"}), "has the model 'test-model'"),
        (says(400, {"error": "no"}), "'test-model' answers chats"),
        (says(200, b"<html>Welcome</html>"), "holds no text (JSON is malformed"),
        (says(200, b""), "holds no text"),
        (says(200, b'{"choices": "\xff\xfe"}'), "holds no text"),
        (says(200, {"choices": []}), "holds no text"),
        (says(200, {"choices": [{"message": {}}]}), "holds no text"),
        (says(200, {"error": KEY}), "[secret]"),
        (writes(None), "holds no text"),
        (writes(["a list"]), "holds no text"),
        (writes(""), "is empty"),
        (writes(" \n\t "), "is empty"),
        (writes("a lone \ud800"), "holds no text"),
        (hang_up, "closed without an answer"),
    ],
)
def test_what_fails_stores_nothing_and_may_work_the_next_time(
    server: Server, space: Space, behaviour: Behaviour, words: str
) -> None:
    tell(space, 0, 1, 2, 3)
    tell(space, 1, 1, 2, 3)
    server.script, server.always = [writes(WRITTEN)], behaviour
    detail = refusal(space)  # of the second of two: the first is not stored either
    assert words in detail
    assert f"summariser '{NAME}' at {server.url}" in detail
    server.always = writes(WRITTEN)
    assert len(space.consolidate()) == 2


def test_a_server_that_is_down_stores_nothing(
    server: Server, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(space, 0, 1, 2, 3)
    server.kill()
    assert "Check that it runs" in refusal(space)
    up = Server()
    try:
        up.always = writes(WRITTEN)
        monkeypatch.setenv(openai.BASE_URL_VARIABLE, up.url)
        assert [belief.content for belief in space.consolidate()] == [WRITTEN]
    finally:
        up.kill()


def test_a_slow_server_is_given_up(
    server: Server, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(space, 0, 1, 2, 3)
    monkeypatch.setenv(openai.TIMEOUT_VARIABLE, "0.2")
    server.always = stall
    assert "no whole answer within 0.2 s" in refusal(space)


def test_a_setting_that_cannot_be_is_named(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(space, 0, 1, 2, 3)
    monkeypatch.setenv(openai.BASE_URL_VARIABLE, f"ftp://{KEY}@host/")
    assert openai.BASE_URL_VARIABLE in refusal(space)


def test_what_goes_while_the_model_writes_is_not_told(server: Server, space: Space) -> None:
    tell(space, 0, 1, 2, 3)

    def purging(handler: Handler, body: Any) -> None:
        space.purge("0-2")
        writes(WRITTEN)(handler, body)

    server.script = [purging]
    assert space.consolidate().beliefs == ()
    assert beliefs(space) == []


@pytest.mark.parametrize("given", [None, "", "  "])
def test_without_a_name_sentences_are_picked(
    server: Server, space: Space, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    monkeypatch.delenv(summariser.VARIABLE)
    if given is not None:
        monkeypatch.setenv(summariser.VARIABLE, given)
    tell(space, 0, 1, 2, 3)
    (belief,) = space.consolidate()
    assert (belief.summariser, server.requests) == ("extractive", [])


@pytest.mark.parametrize(
    "given",
    [KEY, "extractive", "openai", "openai:", "openai: x", "OpenAI:x", "openai:" + "x" * 201],
)
def test_what_names_no_summariser_is_refused_and_not_shown(
    server: Server, space: Space, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    tell(space, 0, 1, 2, 3)
    monkeypatch.setenv(summariser.VARIABLE, given)
    with pytest.raises(Invalid, match=summariser.VARIABLE) as caught:
        space.consolidate()
    assert KEY not in f"{caught.value!r} {caught.value.detail}"
    assert (beliefs(space), server.requests) == ([], [])


def test_a_name_is_read_from_what_it_is_given() -> None:
    named = configured({summariser.VARIABLE: f" {NAME} "})
    assert named is not None
    assert named.name == NAME
    assert configured({}) is None


@pytest.mark.parametrize(
    ("written", "content"),
    [
        (f"\n {WRITTEN} \n", WRITTEN),
        ("x" * 4_000, "x" * 4_000),
        ("ö" * 4_001, "ö" * 3_999 + "…"),
        ("x" * 3_998 + " yz", "x" * 3_998 + "…"),
        ("Ein Löffel 🥄", "Ein Löffel 🥄"),
    ],
)
def test_what_is_written_is_stripped_and_cut(
    server: Server, space: Space, written: str, content: str
) -> None:
    server.always = writes(written)
    tell(space, 0, 1, 2, 3)
    (belief,) = space.consolidate()
    assert belief.content == content
    assert {(c.start, c.end) for c in belief.citations} == {(0, len(content))}


@pytest.mark.parametrize("letter", ["x", "ö", "🥄"])
def test_notes_that_are_too_long_together_are_cut_to_the_same_length(
    server: Server, letter: str
) -> None:
    size = len(letter.encode())
    texts = ["short", letter * (100_000 // size), letter * (50_000 // size), "also short"]
    summary = OpenAISummariser("test-model").summarise(list(enumerate(texts, 7)))
    assert [number for number, _, _ in summary.citations] == [7, 8, 9, 10]
    [(_, _, body)] = server.requests
    notes = body["messages"][1]["content"].split("\n\n")
    first, one, other, last = notes
    assert (first, last) == ("1. short", "4. also short")
    assert one == one[:3] + letter * (len(one) - 4) + "…"
    assert one[3:] == other[3:]
    sent = sum(len(note[3:].encode()) for note in notes)
    assert summariser.NOTES_BYTES_MAX - 2 * (size + 1) <= sent <= summariser.NOTES_BYTES_MAX


def test_notes_that_fit_together_are_sent_whole(server: Server) -> None:
    texts = ["y", "x" * (summariser.NOTES_BYTES_MAX - 2), "z"]
    OpenAISummariser("test-model").summarise(list(enumerate(texts)))
    [(_, _, body)] = server.requests
    assert body["messages"][1]["content"] == f"1. y\n\n2. {texts[1]}\n\n3. z"


def test_by_itself_it_asks_the_model_and_a_failure_is_only_logged(
    server: Server, tended: Space, caplog: pytest.LogCaptureFixture
) -> None:
    server.always = says(401, {"error": {"message": f"Incorrect API key: {KEY}"}})
    tell(tended, 0, 1, 2, 3)
    with caplog.at_level(logging.WARNING, "engram.spaces"):
        tended.configure(consolidation="after:1")
        wait_until(lambda: bool(caplog.records))
        wait_until(lambda: not tended._store().consolidator.runs)
    (record,) = caplog.records
    assert "[secret]" in record.getMessage()
    assert KEY not in record.getMessage()
    assert beliefs(tended) == []
    waiting_s = tended._store().consolidator.due_s()
    assert waiting_s is not None
    assert 0 < waiting_s <= 60
    tended.remember("Still here.", id="other", embedding=near(3, 1))
    server.always = writes(WRITTEN)
    tended._store().consolidator._not_before_s = 0.0
    tended._store().consolidator.tend()
    wait_until(lambda: [belief.content for belief in beliefs(tended)] == [WRITTEN])
