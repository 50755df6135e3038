"""What REST answers when all is well: spaces, memories, recall, and the shape of each answer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

import engram
from engram.embedding.registry import embedder_for
from engram.server.app import build_app

from .harness import LOCAL

MEMORY_FIELDS = [
    "id",
    "memory_space_id",
    "kind",
    "content",
    "tags",
    "metadata",
    "confidence",
    "occurred_at",
    "expires_at",
    "stored_at",
    "source",
    "revision",
    "position",
]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with engram.open(tmp_path / "data") as db, TestClient(build_app(db), LOCAL) as client:
        yield client


@pytest.fixture
def alpha(client: TestClient) -> str:
    assert client.put("/api/v1/spaces/alpha").status_code == 201
    return "/api/v1/spaces/alpha"


def ids(answer: Any) -> list[str]:
    return [memory["id"] for memory in answer.json()["memories"]]


def test_a_space_is_created_shown_and_listed(client: TestClient) -> None:
    created = client.post("/api/v1/spaces", json={"memory_space_id": "alpha"})
    assert created.status_code == 201
    assert created.headers["location"] == "/api/v1/spaces/alpha"
    shown = client.get(created.headers["location"])
    assert shown.status_code == 200
    assert shown.json() == created.json()
    assert list(shown.json()) == [
        "memory_space_id",
        "uuid",
        "generation",
        "state",
        "created_at",
        "embedding",
        "retention",
        "decay",
        "forgetting",
        "consolidation",
        "quotas",
        "position",
        "memories",
        "bytes",
        "oldest_position",
        "checkpoint_bytes",
    ]
    assert shown.json()["state"] == "active"
    assert shown.json()["embedding"].keys() == {"model", "dimensions"}
    listed = client.get("/api/v1/spaces").json()
    assert [space["memory_space_id"] for space in listed["spaces"]] == ["alpha"]
    assert listed["next"] is None


@pytest.mark.parametrize("body", [{}, {"memory_space_id": None}, None])
def test_without_an_id_the_server_mints_one(client: TestClient, body: Any) -> None:
    created = client.post("/api/v1/spaces", json=body)
    assert created.status_code == 201
    assert client.get(created.headers["location"]).json() == created.json()


def test_the_sentence_encoder_is_an_embedding_like_any_other(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {"embedding": {"model": "all-minilm-l6-v2-int8", "dimensions": 384}}
    assert client.put("/api/v1/spaces/quality", json=spec).json()["embedding"] == spec["embedding"]
    path = "/api/v1/spaces/quality"
    new = {"memories": [{"content": "My vehicle's engine failed"}, {"content": "He likes cake"}]}
    assert client.post(f"{path}/memories", json=new).status_code == 201
    found = client.post(f"{path}/recall", json={"query": "the car broke down", "limit": 1}).json()
    assert found["results"][0]["memory"]["content"] == "My vehicle's engine failed"
    # As where the extra is not installed:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    embedding = engram.EmbeddingSpec(model="all-minilm-l6-v2-int8", dimensions=384)
    monkeypatch.setattr(embedder_for(embedding), "_loaded", None)
    for refused in (
        client.put("/api/v1/spaces/another", json=spec),
        client.post(f"{path}/memories", json={"content": "x"}),
    ):
        assert refused.status_code == 503
        assert refused.json()["type"].endswith("/embedder-unavailable")
        assert "pip install 'engram-spaces[minilm]'" in refused.json()["detail"]
    assert client.get("/api/v1/spaces/another").status_code == 404


def test_creating_twice_is_refused_and_putting_twice_is_not(client: TestClient) -> None:
    spec = {"embedding": {"model": "caller", "dimensions": 3}}
    first = client.put("/api/v1/spaces/alpha", json=spec)
    again = client.put("/api/v1/spaces/alpha", json=spec)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert client.put("/api/v1/spaces/alpha").status_code == 200
    refused = client.put(
        "/api/v1/spaces/alpha", json={"embedding": {"model": "caller", "dimensions": 4}}
    )
    assert refused.status_code == 409
    assert refused.json()["type"].endswith("/space-exists")
    assert client.post("/api/v1/spaces", json={"memory_space_id": "alpha"}).status_code == 409


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("all", (None, None)),
        ({}, (None, None)),
        ("positions:10000", (10_000, None)),
        ({"positions": 10_000}, (10_000, None)),
        ({"age_s": 60, "positions": None}, (None, 60)),
        ("age:1m", (None, 60)),
    ],
)
def test_a_space_is_told_how_much_history_to_keep(
    client: TestClient, alpha: str, given: Any, kept: tuple[int | None, int | None]
) -> None:
    before = client.get(alpha).json()
    assert before["retention"] == {"positions": None, "age_s": None}
    client.patch(alpha, json={"retention": {"positions": 1}})
    answer = client.patch(alpha, json={"retention": given})
    assert answer.status_code == 200
    assert answer.json() == client.get(alpha).json()
    assert answer.json()["retention"] == dict(zip(("positions", "age_s"), kept, strict=True))
    assert answer.json()["position"] == before["position"] + 2


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("power:0.3", {"family": "power", "exponent": 0.3}),
        ({}, {"family": "power", "exponent": 0.5}),
        ({"family": "exponential"}, {"family": "exponential", "half_life_s": 2_592_000}),
        ({"family": "none", "weight": 1}, {"family": "none", "weight": 1.0}),
        ({"exponent": 1, "weight": 0.0}, {"family": "power", "exponent": 1.0, "weight": 0.0}),
    ],
)
def test_a_space_is_told_how_its_memories_fade(
    client: TestClient, alpha: str, given: Any, shown: dict[str, Any]
) -> None:
    client.patch(alpha, json={"retention": {"positions": 7}})
    answer = client.patch(alpha, json={"decay": given})
    assert answer.status_code == 200
    assert answer.json() == client.get(alpha).json()
    assert answer.json()["retention"] == {"positions": 7, "age_s": None}
    default = {"exponent": None, "half_life_s": None, "weight": engram.Decay().weight}
    assert answer.json()["decay"] == {**default, **shown}


def test_spaces_are_listed_in_pages(client: TestClient) -> None:
    names = [f"space-{number}" for number in range(5)]
    for name in reversed(names):
        client.put(f"/api/v1/spaces/{name}")
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page = client.get(
            "/api/v1/spaces", params={"limit": 2} | ({"after": after} if after else {})
        )
        seen += [space["memory_space_id"] for space in page.json()["spaces"]]
        after = page.json()["next"]
    assert seen == names


def test_a_memory_is_remembered_read_revised_and_forgotten(client: TestClient, alpha: str) -> None:
    given = {
        "id": "m1",
        "content": "The deploy key is rotated every Monday",
        "kind": "fact",
        "tags": ["ops", "keys"],
        "metadata": {"agent": "planner", "depth": {"n": [1, 2.5, None, True]}},
        "confidence": 0.5,
        "occurred_at": "2026-05-01T09:00:00.123456+02:00",
        "expires_at": "2199-01-01T00:00:00Z",
        "source": "runbook",
    }
    created = client.post(f"{alpha}/memories", json=given)
    assert created.status_code == 201
    assert created.headers["location"] == f"{alpha}/memories/m1"
    assert list(created.json()) == ["memory_space_id", "position", "memories"]
    [memory] = created.json()["memories"]
    assert list(memory) == MEMORY_FIELDS
    assert memory["occurred_at"] == "2026-05-01T07:00:00.123456Z"
    for name in set(given) - {"occurred_at"}:
        assert memory[name] == given[name]
    assert memory["position"] == created.json()["position"]
    assert memory["stored_at"].endswith("Z")
    assert client.get(f"{alpha}/memories/m1").json() == memory

    revised = client.patch(
        f"{alpha}/memories/m1",
        json={
            "content": "It is rotated every Tuesday",
            "tags": None,
            "source": None,
            "metadata": {},
        },
    )
    assert revised.status_code == 200
    assert revised.json() == client.get(f"{alpha}/memories/m1").json()
    expected = {
        "content": "It is rotated every Tuesday",
        "tags": [],
        "source": None,
        "metadata": {},
    }
    for name in ("id", "kind", "confidence", "occurred_at", "expires_at"):
        expected[name] = memory[name]
    assert revised.json().items() >= expected.items()
    assert revised.json()["revision"] == memory["revision"] + 1

    forgotten = client.delete(f"{alpha}/memories/m1")
    assert forgotten.status_code == 200
    assert forgotten.json() == {"id": "m1", "position": revised.json()["position"] + 1}
    for answer in (client.get(f"{alpha}/memories/m1"), client.delete(f"{alpha}/memories/m1")):
        assert answer.status_code == 404
        assert answer.json()["type"].endswith("/memory-not-found")
        assert answer.json()["memory_space_id"] == "alpha"


def test_a_forgotten_memory_is_restored(client: TestClient, alpha: str) -> None:
    [memory] = client.post(f"{alpha}/memories", json={"id": "a b?", "content": "x"}).json()[
        "memories"
    ]
    path = f"{alpha}/memories/a%20b%3F"
    lives = client.post(f"{path}/restore")
    assert lives.status_code == 409
    assert lives.json()["type"].endswith("/memory-exists")
    assert "is not forgotten" in lives.json()["detail"]
    client.delete(path)
    restored = client.post(f"{path}/restore")
    assert restored.status_code == 200
    assert list(restored.json()) == MEMORY_FIELDS
    new = {"revision": 2, "position": 4, "stored_at": restored.json()["stored_at"]}
    assert restored.json() == {**memory, **new}
    assert client.get(path).json() == restored.json()
    never = client.post(f"{alpha}/memories/never/restore")
    assert never.status_code == 404
    assert never.json()["type"].endswith("/memory-not-found")
    assert client.post(f"{path}/restore", json={}).status_code == 400


def test_both_forms_of_a_route_reach_the_same_space(client: TestClient, alpha: str) -> None:
    header = {"X-Memory-Space": "alpha"}
    created = client.post("/api/v1/memories", json={"id": "m", "content": "here"}, headers=header)
    assert created.status_code == 201
    assert created.headers["location"] == f"{alpha}/memories/m"
    assert (
        client.get("/api/v1/memories", headers=header).json()
        == client.get(f"{alpha}/memories").json()
    )
    assert client.get("/api/v1/memories/m", headers=header).json()["content"] == "here"


def test_a_batch_is_one_atomic_write(client: TestClient, alpha: str) -> None:
    before = client.get(alpha).json()["position"]
    batch = [{"id": f"m{n}", "content": f"number {n}"} for n in range(3)]
    created = client.post(f"{alpha}/memories", json={"memories": batch})
    assert created.status_code == 201
    assert "location" not in created.headers
    assert [m["position"] for m in created.json()["memories"]] == [before + n for n in (1, 2, 3)]
    assert created.json()["position"] == before + 3
    refused = client.post(
        f"{alpha}/memories", json={"memories": [{"content": "new"}, {"id": "m1", "content": "old"}]}
    )
    assert refused.status_code == 409
    assert refused.json()["type"].endswith("/memory-exists")
    assert ids(client.get(f"{alpha}/memories")) == ["m0", "m1", "m2"]


STRANGE_IDS = [
    "a b",
    "a:b",
    "a%20b",
    "ünïcode-記憶",
    "a?b#c&d=e",
    "a;b",
    "+",
    "100%",
    "e\u0301",
    "'",
]


@pytest.mark.parametrize("memory_id", STRANGE_IDS)
def test_ids_survive_the_path(client: TestClient, alpha: str, memory_id: str) -> None:
    created = client.post(f"{alpha}/memories", json={"id": memory_id, "content": "strange"})
    assert created.status_code == 201, created.text
    for path in (created.headers["location"], f"{alpha}/memories/{quote(memory_id, safe='')}"):
        assert client.get(path).json()["id"] == memory_id
    assert client.delete(created.headers["location"]).json()["id"] == memory_id


CONTENTS = [
    "nul \x00 inside",
    "line\nbreak\ttab",
    "🧠 and 記憶",
    '"quoted" \\back',
    "a\u2028b",
    "a" * 100_000,
]


@pytest.mark.parametrize("content", CONTENTS, ids=range(len(CONTENTS)))
def test_content_comes_back_as_it_was(client: TestClient, alpha: str, content: str) -> None:
    created = client.post(f"{alpha}/memories", json={"content": content})
    assert created.status_code == 201
    assert client.get(created.headers["location"]).json()["content"] == content


def test_memories_are_listed_in_pages_and_filtered(client: TestClient, alpha: str) -> None:
    batch = [
        {
            "id": f"m{n}",
            "content": f"number {n}",
            "tags": ["even" if n % 2 == 0 else "odd", f"t{n}"],
            "kind": "fact" if n == 3 else "episode",
            "source": "left" if n < 2 else "right",
            "occurred_at": f"2026-05-0{n + 1}T00:00:00Z",
        }
        for n in range(5)
    ]
    client.post(f"{alpha}/memories", json={"memories": batch})
    first = client.get(f"{alpha}/memories?limit=3")
    assert ids(first) == ["m0", "m1", "m2"]
    rest = client.get(f"{alpha}/memories", params={"limit": 3, "after": first.json()["next"]})
    assert ids(rest) == ["m3", "m4"]
    assert rest.json()["next"] is None
    for query, expected in {
        "tag=even": ["m0", "m2", "m4"],
        "tag=even&tag=t2": ["m2"],
        "tag=even&tag=odd": [],
        "kind=fact": ["m3"],
        "source=left": ["m0", "m1"],
        "from=2026-05-02T00:00:00Z&to=2026-05-04T00:00:00Z": ["m1", "m2"],
        "from=2026-05-05T01:00:00%2B01:00": ["m4"],
        "source=right&limit=1": ["m2"],
    }.items():
        assert ids(client.get(f"{alpha}/memories?{query}")) == expected, query


def test_vectors_come_back_only_when_asked_for(client: TestClient) -> None:
    client.put("/api/v1/spaces/v", json={"embedding": {"model": "caller", "dimensions": 2}})
    v = "/api/v1/spaces/v"
    created = client.post(f"{v}/memories", json={"id": "m", "content": "x", "embedding": [0.5, 2]})
    assert created.status_code == 201
    assert "embedding" not in created.json()["memories"][0]
    assert "embedding" not in client.get(f"{v}/memories/m").json()
    for answer in (
        client.get(f"{v}/memories/m?include=embedding").json(),
        client.get(f"{v}/memories?include=embedding").json()["memories"][0],
    ):
        assert answer["embedding"] == [0.5, 2.0]
    client.patch(f"{v}/memories/m", json={"embedding": [1, 0]})
    assert client.get(f"{v}/memories/m?include=embedding").json()["embedding"] == [1.0, 0.0]


def test_recall_answers_by_the_contract(client: TestClient, alpha: str) -> None:
    assert client.post(f"{alpha}/recall", json={"query": "anything"}).json()["results"] == []
    contents = ["The deploy key is rotated every Monday", "Lunch is at noon", "The cat sleeps"]
    client.post(f"{alpha}/memories", json={"memories": [{"content": c} for c in contents]})
    position = client.get(alpha).json()["position"]
    answer = client.post(
        f"{alpha}/recall", json={"query": "when is the deploy key rotated?", "limit": 2}
    )
    assert answer.status_code == 200
    document = answer.json()
    assert list(document) == [
        "memory_space_id",
        "recall_id",
        "position",
        "mode",
        "recorded",
        "results",
        "took_ms",
    ]
    assert document["memory_space_id"] == "alpha"
    assert document["position"] == position
    assert document["mode"] == "spreading"
    assert document["recorded"] is True
    best = document["results"][0]
    assert list(best) == ["memory", "score", "confidence", "activation", "hops"]
    assert best["memory"]["content"] == contents[0]
    assert list(best["memory"]) == MEMORY_FIELDS
    assert best["confidence"].keys() == {"point", "lower", "upper"}
    assert len(document["results"]) <= 2
    explained = client.post(
        f"{alpha}/recall", json={"query": "deploy key", "mode": "hybrid", "explain": True}
    ).json()
    assert explained["mode"] == "hybrid"
    for hit in explained["results"]:
        parts = ("similarity", "lexical", "recency", "frequency")
        assert sum(hit["why"][part] for part in parts) == pytest.approx(hit["score"])
    spread = {"query": "deploy key", "explain": True, "spread": {"max_hops": 1, "decay": 0.9}}
    for hit in client.post(f"{alpha}/recall", json=spread).json()["results"]:
        parts = ("similarity", "lexical", "window", "activation", "recency", "frequency")
        assert sum(hit["why"][part] for part in parts) == pytest.approx(hit["score"])
        assert all(
            step.keys() == {"from", "to", "weight", "relation"} for step in hit["why"]["path"]
        )


def test_recall_filters_and_takes_other_cues(client: TestClient, alpha: str) -> None:
    batch = [
        {"id": "a", "content": "the red apple", "tags": ["x"], "metadata": {"n": 1}},
        {"id": "b", "content": "the red apple", "tags": ["y"], "metadata": {"n": 2}},
    ]
    client.post(f"{alpha}/memories", json={"memories": batch})

    def recalled(body: dict[str, Any]) -> list[str]:
        answer = client.post(f"{alpha}/recall", json=body)
        assert answer.status_code == 200, answer.text
        return [hit["memory"]["id"] for hit in answer.json()["results"]]

    for wanted, expected in (
        ({"tags_all": ["x"]}, ["a"]),
        ({"tags_any": ["y", "z"]}, ["b"]),
        ({"metadata": {"n": {"$gt": 1}}}, ["b"]),
        ({"metadata": {"n": 1}, "kind": "episode"}, ["a"]),
        ({"from": "2020-01-01T00:00:00Z", "to": "2020-01-02T00:00:00Z"}, []),
    ):
        assert recalled({"query": "red apple", "filter": wanted}) == expected, wanted
    assert "b" in recalled({"memory_ids": ["a"]})
    assert recalled({"query": "red apple", "min_confidence": 1}) == []


HOSTILE_QUERIES = [
    "? ? ? " * 500,
    "\"quoted\" 'single' `tick`",
    "AND OR NOT NEAR(a b) a* -b +c (d) {e} [f] ^g col:h",
    "'; DROP TABLE memories; --",
    "\\ % _ \x00 \n",
    "記憶 🧠 e\u0301",
    "why " * 5_000,
]


@pytest.mark.parametrize("mode", ["lexical", "hybrid", "similarity", None])
@pytest.mark.parametrize("query", HOSTILE_QUERIES, ids=range(len(HOSTILE_QUERIES)))
def test_a_question_is_text_and_no_query_language(api: Any, query: str, mode: str | None) -> None:
    body = {"query": query} | ({"mode": mode} if mode else {})
    answer = api.client.post("/api/v1/spaces/alpha/recall", json=body)
    assert answer.status_code == 200, answer.text


def test_head_answers_like_get(client: TestClient, alpha: str) -> None:
    for path in ("/healthz", alpha, "/api/v1/spaces", f"{alpha}/memories"):
        assert client.head(path).status_code == 200
    assert client.head(f"{alpha}/memories/none").status_code == 404


def test_healthz_says_ok(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        'Application/JSON;Charset="UTF-8"',
        None,
    ],
)
def test_json_may_be_announced_or_not(
    client: TestClient, alpha: str, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = client.post(f"{alpha}/memories", content=b'{"content": "x"}', headers=headers)
    assert answer.status_code == 201


def test_times_are_utc(client: TestClient, alpha: str) -> None:
    stored = client.post(f"{alpha}/memories", json={"content": "x"}).json()["memories"][0]
    assert datetime.fromisoformat(stored["stored_at"]).utcoffset().total_seconds() == 0
