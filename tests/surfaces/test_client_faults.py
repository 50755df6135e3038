"""The clients against servers that are absent, broken, slow, cut off or not ours."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import pytest

import engram
from engram import AsyncClient, errors
from engram.client.answers import ERROR_CLASSES
from engram.errors import EngramError

from .fake_server import (
    ABORT,
    CLOSE,
    always,
    document,
    fake_server,
    http,
    in_turn,
    problem,
    silence,
)

KEY = "engram_0123_very-secret"
MEMORY = {
    "id": "one",
    "memory_space_id": "alpha",
    "kind": "episode",
    "content": "text",
    "tags": [],
    "metadata": {},
    "confidence": 1.0,
    "occurred_at": None,
    "expires_at": None,
    "stored_at": "2026-05-01T09:00:00Z",
    "source": None,
    "revision": 1,
    "position": 2,
}
once = partial(AsyncClient, retry_s=0)
"""A client that sends nothing again."""
Verb = Callable[[AsyncClient], Awaitable[Any]]
READS: dict[str, Verb] = {
    "get": lambda c: c.space("alpha").get("one"),
    "list": lambda c: c.space("alpha").list(),
    "recall": lambda c: c.space("alpha").recall("text"),
    "info": lambda c: c.space_info("alpha"),
    "spaces": lambda c: c.spaces(),
    "history": lambda c: c.space("alpha").history("one"),
    "events": lambda c: anext(c.space("alpha").events(0)),
}
WRITES: dict[str, Verb] = {
    "remember": lambda c: c.space("alpha").remember("text"),
    "remember_many": lambda c: c.space("alpha").remember_many(["text"]),
    "revise": lambda c: c.space("alpha").revise("one", engram.Changes(content="x")),
    "forget": lambda c: c.space("alpha").forget("one"),
    "restore": lambda c: c.space("alpha").restore("one"),
    "configure": lambda c: c.space("alpha").configure(retention="all"),
    "create_space": lambda c: c.create_space("alpha"),
    "ensure_space": lambda c: c.ensure_space("alpha"),
}
VERBS = READS | WRITES


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


async def error_from(work: Awaitable[Any]) -> EngramError:
    with pytest.raises(EngramError) as caught:
        await work
    return caught.value


def shown(error: BaseException | None) -> str:
    """All that a report of an error could show, whatever led to it included."""
    texts = []
    while error is not None:
        texts += [str(error), repr(error), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


NONSENSE = {
    "a page": http(200, b"<html>Welcome to nginx</html>", "text/html"),
    "a page saying 404": http(404, b"<html>Not here</html>", "text/html"),
    "a proxy's 502": http(502, b"<html>Bad gateway</html>", "text/html"),
    "no media type": http(200, b"{}", ""),
    "nothing": http(200),
    "half a document": http(200, b'{"memory_space_id": "alpha", "posi'),
    "a list": http(200, b"[1, 2]"),
    "another document": http(200, b'{"hello": "world"}'),
    "wrong types": document({**MEMORY, "position": "two", "next": 1, "uuid": 5}),
    "not UTF-8": http(200, b'{"id": "\xff"}'),
    "nested without end": http(200, b'{"id":' + b"[" * 100_000),
    "an error without a document": http(500),
    "half a problem": http(503, b'{"type": "https://engr', "application/problem+json"),
    "a problem without a type": http(400, b'{"detail": "no"}', "application/problem+json"),
    "a way elsewhere": http(307, b"", "", "Location: http://127.0.0.1:1/"),
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS.keys())
@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE.keys())
def test_what_is_not_ours_is_told_with_its_url_and_what_to_do(answer: bytes, verb: Verb) -> None:
    async def main() -> None:
        async with (
            fake_server(always(answer)) as fake,
            once(fake.url, KEY) as client,
        ):
            error = await error_from(verb(client))
            assert type(error) is errors.ServerAnswerInvalid
            assert fake.url in error.detail
            assert "Check that the URL leads to an Engram server" in error.detail
            if answer.startswith(b"HTTP"):
                assert answer[9:12].decode() in error.detail
            assert ("with text/html" in error.detail) == (b"text/html" in answer)
            assert ("read before repeating" in error.detail) == (verb in WRITES.values())
            assert KEY not in shown(error)
            assert len(fake.requests) == 1

    run(main())


@pytest.mark.parametrize("verb", ["get", "remember", "recall", "list", "revise", "info"])
def test_an_answer_about_another_space_is_refused(verb: str) -> None:
    stranger = {**MEMORY, "memory_space_id": "beta"}
    answer = {
        "remember": {"memory_space_id": "alpha", "position": 2, "memories": [stranger]},
        "list": {"memories": [stranger], "next": None},
        "info": {"memory_space_id": "beta"},
        "recall": {
            "memory_space_id": "alpha",
            "recall_id": "r",
            "position": 2,
            "mode": "lexical",
            "recorded": False,
            "took_ms": 1.0,
            "results": [
                {
                    "memory": stranger,
                    "score": 1.0,
                    "activation": 0.0,
                    "hops": 0,
                    "confidence": {"point": 1.0, "lower": 1.0, "upper": 1.0},
                }
            ],
        },
    }.get(verb, stranger)

    async def main() -> None:
        async with (
            fake_server(always(document(answer))) as fake,
            once(fake.url) as client,
        ):
            error = await error_from(VERBS[verb](client))
            assert type(error) is errors.ServerAnswerInvalid
            assert "'beta'" in error.detail

    run(main())


def test_a_list_of_spaces_that_goes_in_circles_is_refused() -> None:
    async def main() -> None:
        circle = document({"spaces": [], "next": "alpha"})
        async with fake_server(always(circle)) as fake, once(fake.url) as client:
            assert type(await error_from(client.spaces())) is errors.ServerAnswerInvalid
            assert len(fake.requests) == 2

    run(main())


@pytest.mark.parametrize("name", sorted(ERROR_CLASSES))
def test_a_problem_becomes_its_error(name: str) -> None:
    kind = ERROR_CLASSES[name]
    answer = problem(kind.status, name, title="T", detail="do this", memory_space_id="alpha")

    async def main() -> None:
        async with fake_server(always(answer)) as fake, once(fake.url) as client:
            for verb in VERBS.values():
                error = await error_from(verb(client))
                assert type(error) is kind
                assert (error.detail, error.memory_space_id) == ("do this", "alpha")

    run(main())


def test_a_problem_keeps_its_fields() -> None:
    fields = [{"field": "content", "message": "is empty"}, {"field": "tags[1]", "message": "no"}]

    async def main() -> None:
        answer = in_turn(
            problem(422, "invalid", detail="d", errors=fields),
            problem(
                *(410, "history-gone"), detail="d", oldest_position=7, position=9, space_uuid="u"
            ),
        )
        async with fake_server(answer) as fake, once(fake.url) as client:
            invalid = await error_from(client.space("alpha").remember("x"))
            assert [(e.field, e.message) for e in invalid.errors] == [
                ("content", "is empty"),
                ("tags[1]", "no"),
            ]
            gone = await error_from(client.space("alpha").events(3).__anext__())
            assert isinstance(gone, errors.HistoryGone)
            assert (gone.oldest_position, gone.position, gone.space_uuid) == (7, 9, "u")

    run(main())


def test_a_problem_of_a_later_version_keeps_its_status_and_words() -> None:
    async def main() -> None:
        answer = problem(429, "too-fast", title="Too fast", detail="wait a second")
        async with fake_server(always(answer)) as fake, once(fake.url) as client:
            error = await error_from(client.spaces())
            assert (error.status, error.problem, error.title) == (429, "too-fast", "Too fast")
            assert str(error) == "wait a second"

    run(main())


BROKEN = {
    "closed before the answer": b"",
    "reset before the answer": ABORT,
    "closed within the head": b"HTTP/1.1 200 OK\r\nContent-Ty",
    "closed within the body": http(200, b'{"half": ', length=500),
}


@pytest.mark.parametrize("verb", WRITES.values(), ids=WRITES.keys())
@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("reused", [False, True], ids=["new", "reused"])
def test_a_write_cut_off_without_a_key_has_an_unknown_outcome_and_is_never_repeated(
    answer: bytes, verb: Verb, reused: bool
) -> None:
    async def main() -> None:
        fine = document({"spaces": [], "next": None}, keep=True)
        cut = answer if answer == ABORT else answer + CLOSE
        script = in_turn(*[fine] * reused, cut, document({}, 500))
        async with fake_server(script) as fake, once(fake.url, KEY) as client:
            fake.keeps = True
            if reused:
                await client.spaces()
            error = await error_from(verb(client))
            assert type(error) is errors.OutcomeUnknown
            assert "may or may not" in error.detail
            assert KEY not in shown(error)
            assert len(fake.requests) == 1 + reused
            assert fake.connections == 1

    run(main())


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("name", [name for name in READS if name != "events"])
def test_a_read_cut_off_is_repeated_once(answer: bytes, name: str) -> None:
    async def main() -> None:
        async with fake_server(always(answer)) as fake, once(fake.url) as client:
            error = await error_from(READS[name](client))
            assert type(error) is errors.ServerUnreachable
            assert len(fake.requests) == 2
        script = in_turn(answer, document(MEMORY))
        async with fake_server(script) as fake, once(fake.url) as client:
            assert (await client.space("alpha").get("one")).content == "text"
            assert len(fake.requests) == 2

    run(main())


@pytest.mark.parametrize("name", VERBS)
def test_a_server_that_does_not_answer_is_waited_for_no_longer_than_told(name: str) -> None:
    async def main() -> None:
        async with (
            fake_server(silence) as fake,
            once(fake.url, timeout_s=0.05) as client,
        ):
            error = await error_from(VERBS[name](client))
            kind = errors.OutcomeUnknown if name in WRITES else errors.ServerUnreachable
            assert type(error) is kind
            assert "0.05 s" in error.detail
            assert len(fake.requests) == 1

    run(main())


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.mark.parametrize("name", VERBS)
def test_no_server_says_how_to_start_one(name: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"

    async def main() -> None:
        async with AsyncClient(url, KEY) as client:
            error = await error_from(VERBS[name](client))
            assert type(error) is errors.ServerUnreachable
            assert url in error.detail
            assert "engram serve" in error.detail
            assert KEY not in shown(error)

    run(main())


def test_the_key_goes_with_every_request_and_is_shown_nowhere() -> None:
    async def main() -> None:
        async with (
            fake_server(always(document({"spaces": [], "next": None}))) as fake,
            once(fake.url, KEY) as client,
        ):
            await client.spaces()
            assert fake.requests[0].headers["authorization"] == f"Bearer {KEY}"
            for thing in (client, client.space("alpha")):
                assert KEY not in repr(thing)

    run(main())


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "käy", 5])
def test_what_cannot_be_a_key_is_refused_without_showing_it(key: Any) -> None:
    with pytest.raises(errors.Malformed) as caught:
        AsyncClient("http://localhost:7432", key)
    assert not key or str(key) not in shown(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost:7432", "ftp://localhost", "http://", "http://h:0", "http://h:99999"),
        *("http://h/?a=b", "http://h/#f", "http://h h/", "http://h\n", "http://[::1", 7432, None),
        *("http://..", f"http://{'a' * 64}", "http://a..b:7432"),
    ],
)
def test_what_is_not_the_url_of_a_server_is_refused(url: Any) -> None:
    for client in (AsyncClient, engram.Client):
        with pytest.raises(errors.Malformed, match=r"http://127\.0\.0\.1:7432"):
            client(url)


@pytest.mark.parametrize("given", ["", "/", "/api/v1", "/api/v1/"])
def test_the_path_of_requests_may_stand_in_the_url(given: str) -> None:
    assert AsyncClient("http://localhost:7432" + given).url == "http://localhost:7432"
    assert AsyncClient("http://localhost/engram" + given).url == "http://localhost/engram"


def test_a_password_in_the_url_is_refused_without_showing_it() -> None:
    with pytest.raises(errors.Malformed) as caught:
        AsyncClient(f"http://me:{KEY}@localhost:7432")
    assert KEY not in shown(caught.value)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 10**400, "5", True])
@pytest.mark.parametrize("name", ["timeout_s", "heartbeat_timeout_s"])
def test_times_must_be_seconds(name: str, seconds: Any) -> None:
    with pytest.raises(errors.Malformed, match=name):
        AsyncClient("http://localhost:7432", **{name: seconds})


@pytest.mark.parametrize("name", VERBS)
def test_a_closed_client_says_so(name: str) -> None:
    async def main() -> None:
        async with fake_server(always(document({}))) as fake:
            client = once(fake.url)
            async with client:
                pass
            await client.close()
            error = await error_from(VERBS[name](client))
            assert type(error) is errors.Unavailable
            assert "closed" in error.detail
            assert fake.requests == []

    run(main())


@pytest.mark.parametrize("name", VERBS)
def test_closing_ends_what_waits_for_an_answer(name: str) -> None:
    async def main() -> None:
        async with fake_server(silence) as fake:
            client = once(fake.url)
            waiting = asyncio.ensure_future(error_from(VERBS[name](client)))
            await fake.asked(1)
            await client.close()
            kind = errors.OutcomeUnknown if name in WRITES else errors.Unavailable
            assert type(await waiting) is kind
            await asyncio.wait_for(fake.left.wait(), 10)

    run(main())


def test_a_client_stays_in_its_loop() -> None:
    client = AsyncClient("http://localhost:1")

    async def begin() -> None:
        await error_from(client.spaces())

    async def elsewhere() -> None:
        for work in (client.spaces(), client.close()):
            assert "another event loop" in (await error_from(work)).detail

    with asyncio.Runner() as first:
        first.run(begin())
        with asyncio.Runner() as second:
            second.run(elsewhere())
        first.run(client.close())


def test_connections_are_used_again() -> None:
    async def main() -> None:
        answer = document({"spaces": [], "next": None}, keep=True)
        async with fake_server(always(answer)) as fake:
            fake.keeps = True
            async with once(fake.url) as client:
                for _ in range(5):
                    await client.spaces()
                assert (len(fake.requests), fake.connections) == (5, 1)

    run(main())


def test_a_request_no_server_would_take_is_not_sent() -> None:
    async def main() -> None:
        async with fake_server(always(b"")) as fake, once(fake.url) as client:
            big = ["x" * engram.limits.CONTENT_BYTES_MAX] * 17
            assert type(await error_from(client.space("alpha").remember_many(big))) is (
                errors.TooLarge
            )
            assert fake.requests == []

    run(main())


def test_ids_are_sent_whole_whatever_is_in_them() -> None:
    async def main() -> None:
        async with (
            fake_server(always(document(MEMORY))) as fake,
            once(fake.url) as client,
        ):
            await client.space("alpha").get("a?b#c%2F +ü..")
            assert fake.requests[0].path == (
                "/api/v1/spaces/alpha/memories/a%3Fb%23c%252F%20%2B%C3%BC.."
            )
            body = document({"memory_space_id": "alpha", "position": 2, "memories": [MEMORY]})
            fake.answer = always(body)
            await client.space("alpha").remember("text", id="..a", metadata={"n": 1})
            assert json.loads(fake.requests[1].body) == {
                "content": "text",
                "id": "..a",
                "kind": "episode",
                "metadata": {"n": 1},
                "confidence": 1.0,
            }

    run(main())
