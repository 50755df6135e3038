"""`POST …/complete`: what it answers, and what it refuses, by the name of the field."""

from __future__ import annotations

from typing import Any

import pytest

from .harness import DIMENSIONS, VECTORS, Api

A = "/api/v1/spaces/alpha/complete"
V = f"/api/v1/spaces/{VECTORS}/complete"
FIELDS = [
    *("memory_space_id", "position", "beta", "steps", "converged", "entropy", "single"),
    *("attractor", "content", "kind", "source", "occurred_at", "tags", "metadata", "took_ms"),
]


def test_a_cue_is_filled_in_with_its_evidence(api: Api) -> None:
    answer = api.client.post(A, json={"query": "when is the key rotated?"})
    assert answer.status_code == 200
    document = answer.json()
    assert list(document) == FIELDS
    memory = api.client.get("/api/v1/spaces/alpha/memories/one").json()
    voter = document["attractor"][0]
    assert voter == {"id": "one", "position": memory["position"], "weight": voter["weight"]}
    assert voter["weight"] > 0.99
    assert (document["single"], document["converged"], document["beta"]) == (True, True, 32.0)
    assert document["content"]["value"] == memory["content"]
    assert document["content"]["confidence"] >= voter["weight"]
    assert document["content"]["evidence"] == [voter]
    assert [tag["value"] for tag in document["tags"]] == ["ops"]
    assert (document["source"], document["occurred_at"], document["metadata"]) == (None, None, {})
    assert document["position"] == api.db.space("alpha").info().position


def test_fields_are_known_by_the_names_they_have_here(api: Api) -> None:
    known = {
        "content": "noon",
        "tags": [],
        "kind": "episode",
        "source": None,
        "from": "2020-01-01T00:00:00Z",
        "to": "2100-01-01T00:00:00Z",
        "metadata": {"place": "kitchen"},
    }
    answer = api.client.post(
        "/api/v1/complete", headers={"X-Memory-Space": "alpha"}, json={"known": known, "limit": 1}
    )
    document = answer.json()
    assert document["metadata"]["place"]["value"] == "kitchen"
    assert [voter["id"] for voter in document["attractor"]] == ["two"]


def test_null_stands_for_what_is_not_known_of_a_vector(api: Api) -> None:
    cue = {"embedding": [0.5, None, None, None]}
    plain = api.client.post(V, json=cue).json()
    assert "embedding" not in plain
    whole = api.client.post(f"{V}?include=embedding", json=cue).json()
    assert whole["embedding"] == [1.0, 0.0, 0.0, 0.0]
    assert whole["content"]["value"] == "north"


def test_an_empty_space_gives_an_empty_answer(api: Api) -> None:
    document = api.client.post("/api/v1/spaces/beta/complete", json={"query": "x"}).json()
    assert (document["attractor"], document["content"], document["tags"]) == ([], None, [])


REFUSED: dict[str, tuple[str, Any, int, str]] = {
    "nothing": (A, {}, 422, ""),
    "no known field": (A, {"known": {}}, 422, ""),
    "nulls": (A, {"query": None, "embedding": None, "known": None}, 422, ""),
    "an empty text": (A, {"query": " "}, 422, "query"),
    "an unknown field": (A, {"query": "x", "cue": "y"}, 422, "cue"),
    "ids of memories": (A, {"memory_ids": ["north"]}, 422, "memory_ids"),
    "an unknown known": (A, {"known": {"colour": "red"}}, 422, "known.colour"),
    "a tag of another type": (A, {"known": {"tags": [5]}}, 422, "known.tags[0]"),
    "an unknown kind": (A, {"known": {"kind": "rumour"}}, 422, "known.kind"),
    "a time without a zone": (A, {"known": {"from": "2026-01-01T00:00:00"}}, 422, "known.from"),
    "an unknown operator": (A, {"known": {"metadata": {"n": {"$near": 1}}}}, 422,
                            "known.metadata.n"),
    "a short vector": (V, {"embedding": [1.0]}, 422, "embedding"),
    "a short partial vector": (V, {"embedding": [1.0, None]}, 422, "embedding"),
    "a zero vector": (V, {"embedding": [0] * DIMENSIONS}, 422, "embedding"),
    "zero where it is known": (V, {"embedding": [0, None, None, None]}, 422, "embedding"),
    "gaps alone": (V, {"embedding": [None] * DIMENSIONS}, 422, "embedding"),
    "words in a vector": (V, {"embedding": ["x"] * DIMENSIONS}, 422, "embedding[0]"),
    "a vector too long for float32": (V, {"embedding": [1e300] * DIMENSIONS}, 422, "embedding"),
    "beta 0": (A, {"query": "x", "beta": 0}, 422, "beta"),
    "beta 1001": (A, {"query": "x", "beta": 1001}, 422, "beta"),
    "beta null": (A, {"query": "x", "beta": None}, 422, "beta"),
    "limit 0": (A, {"query": "x", "limit": 0}, 422, "limit"),
    "limit 1.5": (A, {"query": "x", "limit": 1.5}, 422, "limit"),
    "an unknown parameter": (f"{A}?explain=true", {"query": "x"}, 400, ""),
    "an unknown part": (f"{A}?include=why", {"query": "x"}, 400, ""),
    "no such space": ("/api/v1/spaces/nowhere/complete", {"query": "x"}, 404, ""),
    "a text too long": (A, {"query": "x" * (1 << 17)}, 413, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_cue_is_refused_by_name(unchanged: Api, case: str) -> None:
    path, body, status, field = REFUSED[case]
    answer = unchanged.client.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    if field:
        assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"embedding": [NaN]}', b'{"query": "x"'])
def test_what_is_no_json_object_is_refused(unchanged: Api, body: bytes) -> None:
    assert unchanged.client.post(A, content=body).status_code in {400, 422}
