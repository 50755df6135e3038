"""Requests with an Idempotency-Key: done once and answered the same, across restarts too."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import engram
from engram.memory.answering import Answered
from engram.server.app import build_app
from engram.spaces.keyed import KeyedRequest

from .harness import LOCAL

A = "/api/v1/spaces/alpha"
M = f"{A}/memories"
KEY = "Idempotency-Key"
REPLAYED = "idempotency-replayed"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with engram.open(tmp_path) as db:
        space = db.create_space("alpha")
        space.remember_many([{"id": name, "content": f"content of {name}"} for name in "abcd"])
        space.forget("d")
        space.link("a", "b")
    return tmp_path


@pytest.fixture
def http(root: Path) -> Iterator[TestClient]:
    with engram.open(root) as db, TestClient(build_app(db), LOCAL) as client:
        yield client


WRITES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", M, {"json": {"content": "new", "id": "n"}}),
    ("POST", M, {"json": {"content": "nameless"}}),
    ("POST", M, {"json": {"memories": [{"content": "x"}, {"content": "y"}]}}),
    ("POST", M, {"json": {"memories": [{"content": "x", "id": "b"}], "on_conflict": "skip"}}),
    ("POST", M, {"json": {"memories": [{"content": "x", "id": "b"}], "on_conflict": "replace"}}),
    ("PATCH", f"{M}/a", {"json": {"source": "s"}}),
    ("DELETE", f"{M}/c", {}),
    ("POST", f"{M}/d/restore", {}),
    ("POST", f"{A}/links", {"json": {"source": "b", "target": "a", "weight": 0.5}}),
    ("DELETE", f"{A}/links/a/b", {}),
]


def said(answer: Any) -> tuple[int, bytes, str | None, str | None]:
    return answer.status_code, answer.content, *map(answer.headers.get, ("location", "etag"))


def position(http: TestClient) -> int:
    return int(http.get(A).json()["position"])


def test_every_write_is_done_once_whatever_happens_meanwhile(root: Path) -> None:
    first = []
    with engram.open(root) as db, TestClient(build_app(db), LOCAL) as http:
        for number, (method, path, body) in enumerate(WRITES):
            answer = http.request(method, path, headers={KEY: f"key {number}"}, **body)
            assert answer.status_code in (200, 201), answer.text
            assert REPLAYED not in answer.headers
            first.append(said(answer))
        end = position(http)
    for compacted in (False, True):
        with engram.open(root) as db, TestClient(build_app(db), LOCAL) as http:
            if compacted:
                db.space("alpha").configure(retention="positions:1")
                db.space("alpha").remember("later")
                db.space("alpha").compact()
                end = position(http)
            for number, (method, path, body) in enumerate(WRITES):
                answer = http.request(method, path, headers={KEY: f"key {number}"}, **body)
                assert answer.headers[REPLAYED] == "true"
                assert said(answer) == first[number]
            assert position(http) == end


def test_a_key_takes_no_position_of_its_own_but_where_nothing_happened(http: TestClient) -> None:
    before = position(http)
    http.post(M, json={"content": "x"}, headers={KEY: "k"})
    assert position(http) == before + 1
    skipped = {"memories": [{"content": "x", "id": "a"}], "on_conflict": "skip"}
    answer = http.post(M, json=skipped, headers={KEY: "s"}).json()
    assert (answer["position"], position(http)) == (before + 1, before + 2)


def test_another_request_of_a_key_is_refused(http: TestClient) -> None:
    http.post(M, json={"content": "x"}, headers={KEY: "k"})
    end = position(http)
    for other in (
        http.post(M, json={"content": "y"}, headers={KEY: "k"}),
        http.post(M, content=b'{"content":  "x"}', headers={KEY: "k"}),
    ):
        assert other.status_code == 422
        assert other.json()["type"].endswith("/idempotency-key-reused")
    http.patch(f"{M}/a", json={"source": "s"}, headers={KEY: "p"})
    for path, headers in ((f"{M}/b", {}), (f"{M}/a", {"If-Match": '"x"'})):
        other = http.patch(path, json={"source": "s"}, headers={KEY: "p", **headers})
        assert other.status_code == 422
    assert position(http) == end + 1


def test_a_key_is_of_one_route_and_one_space_however_that_is_named(http: TestClient) -> None:
    http.put("/api/v1/spaces/beta")
    body = {"content": "x"}
    first = http.post(M, json=body, headers={KEY: "k"})
    by_header = http.post(
        "/api/v1/memories", json=body, headers={KEY: "k", "X-Memory-Space": "alpha"}
    )
    assert (by_header.headers[REPLAYED], by_header.content) == ("true", first.content)
    elsewhere = http.post("/api/v1/spaces/beta/memories", json=body, headers={KEY: "k"})
    assert elsewhere.json()["memory_space_id"] == "beta"
    forgotten = http.delete(f"{M}/a", headers={KEY: "k"})
    assert (forgotten.status_code, REPLAYED in forgotten.headers) == (200, False)


def test_what_failed_is_tried_again(http: TestClient) -> None:
    body = {"memories": [{"content": "x", "id": "a"}]}
    assert http.post(M, json=body, headers={KEY: "k"}).status_code == 409
    http.delete(f"{M}/a")
    assert http.post(M, json=body, headers={KEY: "k"}).status_code == 201
    assert http.patch(f"{M}/no", json={"source": "s"}, headers={KEY: "k"}).status_code == 404
    assert http.post(M, content=b"{", headers={KEY: "bad"}).status_code == 400
    assert http.post(M, json={"content": "x"}, headers={KEY: "bad"}).status_code == 201


def test_what_is_told_again_is_told_although_it_is_not_so_any_more(http: TestClient) -> None:
    patch = {"json": {"source": "s"}, "headers": {KEY: "k"}}
    first = http.patch(f"{M}/a", **patch)
    http.delete(f"{M}/a")
    again = http.patch(f"{M}/a", **patch)
    assert (again.status_code, again.content) == (200, first.content)
    http.delete(f"{M}/a?purge=true")
    gone = http.patch(f"{M}/a", **patch)
    assert gone.status_code == 410
    assert gone.json()["type"].endswith("/answer-purged")


def test_while_a_request_is_worked_on_its_key_is_taken(root: Path) -> None:
    with engram.open(root) as db, TestClient(build_app(db), LOCAL) as http:
        space = db.space("alpha")
        request = KeyedRequest(
            bytes.fromhex(space.incarnation),
            tuple(part.encode() for part in ("", "POST /memories", "k")),
            (b"",),
            lambda result: Answered(200, (), b"", ()),
        )
        body = {"json": {"content": "x"}, "headers": {KEY: "k"}}
        with space.answering(request):
            refused = http.post(M, **body)
            assert refused.status_code == 409
            assert refused.json()["type"].endswith("/in-progress")
        assert http.post(M, **body).status_code == 201


def test_of_many_at_once_one_is_done(http: TestClient) -> None:
    before, answers = position(http), list[Any]()
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        answers.append(http.post(M, json={"content": "x"}, headers={KEY: "k"}))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert position(http) == before + 1
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1


@pytest.mark.parametrize("key", ["", "\x7f", "é".encode("latin-1"), "x" * 256])
def test_a_key_is_printable_and_not_too_long(http: TestClient, key: str | bytes) -> None:
    end = position(http)
    answer = http.post(M, json={"content": "x"}, headers={KEY: key})
    assert answer.status_code == 400
    assert "255 printable" in answer.json()["detail"]
    twice = http.post(M, json={"content": "x"}, headers=[(KEY, "a"), (KEY, "b")])
    assert "2 times" in twice.json()["detail"]
    assert position(http) == end


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/v1/spaces", {}),
        ("PUT", "/api/v1/spaces/beta", {}),
        ("DELETE", A, None),
        ("PATCH", A, {"retention": "all"}),
        ("DELETE", f"{M}/a?purge=true", None),
        ("DELETE", M, {"filter": {"tags_all": ["t"]}}),
        ("POST", f"{A}/compact", None),
        ("POST", f"{A}/consolidate", {}),
        ("POST", f"{A}/forgetting", {}),
        ("POST", f"{A}/reopen", None),
        ("POST", f"{A}/fork", {"memory_space_id": "beta"}),
        ("POST", f"{A}/recall", {"query": "x"}),
        ("GET", M, None),
    ],
)
def test_where_a_key_is_not_taken_it_is_said_what_to_do(
    http: TestClient, method: str, path: str, body: Any
) -> None:
    end = position(http)
    answer = http.request(method, path, json=body, headers={KEY: "k"})
    assert answer.status_code == 400
    assert "Leave it out" in answer.json()["detail"]
    assert position(http) == end


def test_a_copy_of_a_space_knows_nothing_of_its_requests(root: Path, tmp_path: Path) -> None:
    with engram.open(root) as db, TestClient(build_app(db), LOCAL) as http:
        for key, body in (("k", {"content": "x"}), ("l", {"content": "y"})):
            http.post(M, json=body, headers={KEY: key})
            db.space("alpha").compact()
        skipped = {"memories": [{"content": "x", "id": "a"}], "on_conflict": "skip"}
        http.post(M, json=skipped, headers={KEY: "m"})
        for name in ("fork", "import"):
            if name == "fork":
                copy = db.space("alpha").fork("fork")
            else:
                db.space("alpha").export(tmp_path / "bundle")
                copy = db.import_space("import", tmp_path / "bundle")
            before = [(event.position, event.type) for event in copy.events(after=0)]
            assert before == [(e.position, e.type) for e in db.space("alpha").events(after=0)]
            for file in (root / name).rglob("*"):
                assert not file.is_file() or b"location" not in file.read_bytes()
            again = http.post(
                f"/api/v1/spaces/{name}/memories", json={"content": "x"}, headers={KEY: "k"}
            )
            assert REPLAYED not in again.headers
