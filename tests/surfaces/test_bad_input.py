"""What must be refused: each request gets its own problem document and changes nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engram import limits

from .harness import DIMENSIONS, VECTORS, Api

A = "/api/v1/spaces/alpha"
M = f"{A}/memories"
V = f"/api/v1/spaces/{VECTORS}/memories"
R = f"{A}/recall"
S = "/api/v1/spaces"
ONE = f"{M}/one"
NORTH = [1.0] + [0.0] * (DIMENSIONS - 1)


def refused(
    client: Any, method: str, path: str, status: int, problem: str, **request: Any
) -> dict[str, Any]:
    answer = client.request(method, path, **request)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"https://engram.dev/problems/{problem}"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert "Traceback" not in answer.text
    return document


BROKEN_BODIES: dict[str, bytes] = {
    "empty": b"",
    "blank": b"  \n",
    "cut off": b'{"content": "x"',
    "not json": b"content=x",
    "single quotes": b"{'content': 'x'}",
    "two documents": b'{"content": "x"} {"content": "y"}',
    "trailing comma": b'{"content": "x",}',
    "not utf-8": b'{"content": "caf\xe9"}',
    "utf-16": '{"content": "x"}'.encode("utf-16"),
    "utf-16 without a mark": '{"content": "x"}'.encode("utf-16-le"),
    "byte order mark": b'\xef\xbb\xbf{"content": "x"}',
    "encoded surrogate bytes": b'{"content": "\xed\xa0\x80"}',
    "lone surrogate": b'{"content": "\\ud800"}',
    "low surrogate first": b'{"content": "\\udc00 x"}',
    "lone surrogate at the end": b'{"content": "\\ud83d\\ude00 \\uD83D"}',
    "trailing comma after a pair": b'{"content": "\\ud83d\\ude00 \\\\ud800",}',
    "raw control character": b'{"content": "a\nb"}',
    "NaN": b'{"content": "x", "embedding": [NaN]}',
    "Infinity": b'{"content": "x", "confidence": Infinity}',
    "minus Infinity": b'{"content": "x", "metadata": {"a": -Infinity}}',
    "deep nesting": b'{"content": "x", "metadata": {"a": '
    + b"[" * 200_000
    + b"]" * 200_000
    + b"}}",
    "deep objects": b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
}


@pytest.mark.parametrize("path", [M, R, ONE, S])
@pytest.mark.parametrize("name", BROKEN_BODIES)
def test_a_body_that_is_not_json_is_malformed(unchanged: Api, path: str, name: str) -> None:
    if path == S and not BROKEN_BODIES[name]:
        pytest.skip("a space can be created without a body")
    method = "PATCH" if path == ONE else "POST"
    document = refused(
        unchanged.client, method, path, 400, "malformed", content=BROKEN_BODIES[name]
    )
    assert document.get("memory_space_id") == (None if path == S else "alpha")
    hint = {
        "NaN": "NaN",
        "Infinity": "NaN",
        "minus Infinity": "NaN",
        "byte order mark": "byte order mark",
        "utf-16": "UTF-16",
        "utf-16 without a mark": "UTF-16",
        "lone surrogate": "\\ud800 without",
        "low surrogate first": "\\udc00 without",
        "lone surrogate at the end": "\\uD83D without",
        "trailing comma after a pair": "trailing comma",
    }.get(name, "")
    assert hint in document["detail"]


# method, path, body, the field that is to blame
BEYOND: list[tuple[str, str, bytes, str]] = [
    ("POST", M, b'{"content": "x", "confidence": 1e999}', "confidence"),
    ("POST", M, b'{"content": "x", "confidence": -1e999}', "confidence"),
    ("POST", M, b'{"content": 1e999}', "content"),
    ("POST", M, b'{"content": "x", "metadata": {"a": {"b": [1, 1e999]}}}', "metadata"),
    ("POST", M, b'{"content": "x", "embedding": [1, 1e999]}', "embedding[1]"),
    ("POST", M, b'{"content": "x", "colour": 1e999}', "colour"),
    ("POST", M, b'{"memories": [{"content": "x", "confidence": 1e999}]}', "memories[0].confidence"),
    ("POST", M, b"1e999", "body"),
    ("POST", M, b"[1e999]", "body"),
    ("PATCH", ONE, b'{"confidence": 1e999}', "confidence"),
    ("PATCH", ONE, b'{"metadata": {"a": 1e999}}', "metadata"),
    ("POST", R, b'{"query": "x", "min_confidence": 1e999}', "min_confidence"),
    ("POST", R, b'{"query": "x", "limit": 1e999}', "limit"),
    ("POST", R, b'{"embedding": [1e999]}', "embedding[0]"),
    (
        "POST",
        R,
        b'{"query": "x", "filter": {"metadata": {"a": {"$gt": 1e999}}}}',
        "filter.metadata",
    ),
    ("POST", S, b'{"embedding": {"model": "m", "dimensions": 1e999}}', "embedding.dimensions"),
    ("PUT", A, b'{"embedding": {"model": "m", "dimensions": 1e999}}', "embedding.dimensions"),
]


@pytest.mark.parametrize(("method", "path", "body", "field"), BEYOND)
def test_a_number_that_no_float_can_hold_is_refused(
    unchanged: Api, method: str, path: str, body: bytes, field: str
) -> None:
    document = refused(unchanged.client, method, path, 422, "invalid", content=body)
    assert [error["field"] for error in document["errors"]] == [field]


def test_a_number_too_large_does_not_hide_that_the_rest_is_not_json(unchanged: Api) -> None:
    body = b'{"content": "x", "confidence": 1e999, oops}'
    refused(unchanged.client, "POST", M, 400, "malformed", content=body)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (M, {"content": 5}, "must be a string, not a whole number"),
        (M, {"content": "x", "id": 5.5}, "must be a string or null, not a number"),
        (M, {"content": "x", "tags": {}}, "must be an array, not an object"),
        (M, {"content": "x", "confidence": True}, "must be a number, not a boolean"),
        (M, {"content": "x", "occurred_at": 5}, "must be an RFC 3339 time or null, not a whole"),
        (M, [{"content": "x"}], 'must be an object, not an array; wrap a list as {"memories"'),
        (M, {"content": "x", "embedding": [1e300, 0, 0, 0]}, "has length 1e+300"),
        (R, [], "must be an object, not an array"),
        (R, {"query": "x", "filter": {"from": "0001-01-01T00:00:00+05:00"}}, "1 to 9999"),
    ],
)
def test_a_wrong_type_is_told_in_the_words_of_json(
    unchanged: Api, path: str, body: Any, message: str
) -> None:
    path = V if "1e+300" in message else path
    document = unchanged.client.post(path, json=body).json()
    assert document["errors"][0]["message"].startswith(message) or message in document["detail"]
    assert ("memories" in document["detail"]) == ("memories" in message)


# path, body, the field that is to blame
INVALID: list[tuple[str, Any, str]] = [
    (M, [], "body"),
    (M, [{"content": "x"}], "body"),
    (M, "x", "body"),
    (M, None, "body"),
    (M, {}, "content"),
    (M, {"content": ""}, "content"),
    (M, {"content": " \n\t "}, "content"),
    (M, {"content": 5}, "content"),
    (M, {"content": None}, "content"),
    (M, {"content": ["x"]}, "content"),
    (M, {"content": "x", "colour": "red"}, "colour"),
    (M, {"content": "x", "on_conflict": "skip"}, "on_conflict"),
    (M, {"content": "x", "memory_space_id": "alpha"}, "memory_space_id"),
    (M, {"content": "x", "stored_at": "2026-01-01T00:00:00Z"}, "stored_at"),
    (M, {"content": "x", "kind": "rumour"}, "kind"),
    (M, {"content": "x", "kind": None}, "kind"),
    (M, {"content": "x", "tags": "ops"}, "tags"),
    (M, {"content": "x", "tags": ["ok", 5]}, "tags[1]"),
    (M, {"content": "x", "tags": [""]}, "tags[0]"),
    (M, {"content": "x", "tags": ["a" * (limits.TAG_CHARACTERS_MAX + 1)]}, "tags[0]"),
    (M, {"content": "x", "tags": ["new\nline"]}, "tags[0]"),
    (M, {"content": "x", "tags": [f"t{n}" for n in range(limits.TAGS_PER_MEMORY_MAX + 1)]}, "tags"),
    (M, {"content": "x", "metadata": []}, "metadata"),
    (M, {"content": "x", "metadata": "x"}, "metadata"),
    (M, {"content": "x", "metadata": {"n": 2**70}}, "metadata.n"),
    (M, {"content": "x", "metadata": {"n": -(2**70)}}, "metadata.n"),
    (M, {"content": "x", "confidence": 1.1}, "confidence"),
    (M, {"content": "x", "confidence": -0.1}, "confidence"),
    (M, {"content": "x", "confidence": "high"}, "confidence"),
    (M, {"content": "x", "confidence": True}, "confidence"),
    (M, {"content": "x", "confidence": 10**400}, "confidence"),
    (M, {"content": "x", "occurred_at": "yesterday"}, "occurred_at"),
    (M, {"content": "x", "occurred_at": "2026-01-01"}, "occurred_at"),
    (M, {"content": "x", "occurred_at": "2026-01-01T00:00:00"}, "occurred_at"),
    (M, {"content": "x", "occurred_at": "2026-02-30T00:00:00Z"}, "occurred_at"),
    (M, {"content": "x", "occurred_at": "0001-01-01T00:00:00+05:00"}, "occurred_at"),
    (M, {"content": "x", "expires_at": "9999-12-31T23:59:59-05:00"}, "expires_at"),
    (M, {"content": "x", "occurred_at": 1767225600}, "occurred_at"),
    (M, {"content": "x", "source": ""}, "source"),
    (M, {"content": "x", "source": "s" * (limits.SOURCE_CHARACTERS_MAX + 1)}, "source"),
    (M, {"content": "x", "source": 5}, "source"),
    (M, {"content": "x", "id": ""}, "id"),
    (M, {"content": "x", "id": "."}, "id"),
    (M, {"content": "x", "id": ".."}, "id"),
    (M, {"content": "x", "id": "../../etc/passwd"}, "id"),
    (M, {"content": "x", "id": "a/b"}, "id"),
    (M, {"content": "x", "id": "a\\b"}, "id"),
    (M, {"content": "x", "id": " a"}, "id"),
    (M, {"content": "x", "id": "a\x00b"}, "id"),
    (M, {"content": "x", "id": "a\u200bb"}, "id"),
    (M, {"content": "x", "id": "a\u202eb"}, "id"),
    (M, {"content": "x", "id": "i" * (limits.MEMORY_ID_CHARACTERS_MAX + 1)}, "id"),
    (M, {"content": "x", "id": 7}, "id"),
    (M, {"memories": []}, "memories"),
    (M, {"memories": None}, "memories"),
    (M, {"memories": {"content": "x"}}, "memories"),
    (M, {"memories": ["x"]}, "memories[0]"),
    (M, {"memories": [{"content": "x"}], "content": "y"}, "content"),
    (M, {"memories": [{"content": "x"}], "tags": ["y"]}, "tags"),
    (M, {"memories": [{"content": "x"}], "on_conflict": "ignore"}, "on_conflict"),
    (M, {"memories": [{"content": "x"}], "on_conflict": None}, "on_conflict"),
    (
        M,
        {"memories": [{"content": "x", "id": "one", "kind": "fact"}], "on_conflict": "replace"},
        "memories[0].kind",
    ),
    (M, {"memories": [{"content": "x"}, {"content": ""}]}, "memories[1].content"),
    (M, {"memories": [{"content": "x"}, {}]}, "memories[1].content"),
    (M, {"memories": [{"content": "x", "colour": 1}]}, "memories[0].colour"),
    (M, {"memories": [{"content": "x", "occurred_at": "no"}]}, "memories[0].occurred_at"),
    (V, {"content": "x"}, "embedding"),
    (V, {"content": "x", "embedding": None}, "embedding"),
    (V, {"content": "x", "embedding": []}, "embedding"),
    (V, {"content": "x", "embedding": NORTH[:-1]}, "embedding"),
    (V, {"content": "x", "embedding": [*NORTH, 0.0]}, "embedding"),
    (V, {"content": "x", "embedding": [0.0] * DIMENSIONS}, "embedding"),
    (V, {"content": "x", "embedding": [1e300] * DIMENSIONS}, "embedding"),
    (V, {"content": "x", "embedding": "north"}, "embedding"),
    (V, {"content": "x", "embedding": {"0": 1}}, "embedding"),
    (V, {"content": "x", "embedding": [None] * DIMENSIONS}, "embedding[0]"),
    (V, {"content": "x", "embedding": ["NaN"] * DIMENSIONS}, "embedding[0]"),
    (V, {"content": "x", "embedding": [True] * DIMENSIONS}, "embedding[0]"),
    (V, {"content": "x", "embedding": [NORTH]}, "embedding[0]"),
    (V, {"memories": [{"content": "x", "embedding": [1]}]}, "memories[0].embedding"),
    (R, {"query": ""}, "query"),
    (R, {"query": 5}, "query"),
    (R, {"query": "x", "limit": 0}, "limit"),
    (R, {"query": "x", "limit": -1}, "limit"),
    (R, {"query": "x", "limit": limits.RECALL_LIMIT_MAX + 1}, "limit"),
    (R, {"query": "x", "limit": 10**30}, "limit"),
    (R, {"query": "x", "limit": 1.5}, "limit"),
    (R, {"query": "x", "limit": "3"}, "limit"),
    (R, {"query": "x", "mode": "auto"}, "mode"),
    (R, {"query": "x", "mode": "magic"}, "mode"),
    (R, {"query": "x", "explain": "yes"}, "explain"),
    (R, {"query": "x", "min_confidence": 2}, "min_confidence"),
    (R, {"query": "x", "as_of": 0}, "as_of"),
    (R, {"query": "x", "as_of": -1}, "as_of"),
    (R, {"query": "x", "as_of": 1.5}, "as_of"),
    (R, {"query": "x", "as_of": True}, "as_of"),
    (R, {"query": "x", "as_of": "1"}, "as_of"),
    (R, {"query": "x", "as_of": "yesterday"}, "as_of"),
    (R, {"query": "x", "as_of": "2026-01-01T00:00:00"}, "as_of"),
    (R, {"query": "x", "as_of": "0001-01-01T00:00:00+05:00"}, "as_of"),
    (R, {"query": "x", "as_of": [1]}, "as_of"),
    (R, {"query": "x", "record": "no"}, "record"),
    (R, {"query": "x", "spread": {"hops": 1}}, "spread.hops"),
    (R, {"query": "x", "spread": {"max_hops": -1}}, "spread.max_hops"),
    (R, {"query": "x", "spread": {"max_hops": 9}}, "spread.max_hops"),
    (R, {"query": "x", "spread": {"max_hops": 1.5}}, "spread.max_hops"),
    (R, {"query": "x", "spread": {"decay": -0.1}}, "spread.decay"),
    (R, {"query": "x", "spread": {"decay": 1.1}}, "spread.decay"),
    (R, {"query": "x", "spread": {"threshold": 0}}, "spread.threshold"),
    (R, {"query": "x", "spread": {"threshold": "NaN"}}, "spread.threshold"),
    (R, {"query": "x", "spread": {}, "mode": "hybrid"}, "spread"),
    (R, {"query": "x", "filter": {"colour": 1}}, "filter.colour"),
    (R, {"query": "x", "filter": {"tags_all": "x"}}, "filter.tags_all"),
    (R, {"query": "x", "filter": {"kind": "x"}}, "filter.kind"),
    (R, {"query": "x", "filter": {"from": "x"}}, "filter.from"),
    (R, {"query": "x", "filter": {"to": "2026-01-01T00:00:00"}}, "filter.to"),
    (R, {"query": "x", "filter": []}, "filter"),
    (R, {"memory_ids": "one"}, "memory_ids"),
    (R, {"embedding": [1, 2, 3]}, "embedding"),
    (S, {"memory_space_id": 5}, "memory_space_id"),
    (S, {"memory_space_id": "new", "owner": {}}, "owner"),
    (S, {"memory_space_id": "new", "embedding": "caller"}, "embedding"),
    (S, {"memory_space_id": "new", "embedding": {"model": "caller"}}, "embedding.dimensions"),
    (
        S,
        {"memory_space_id": "new", "embedding": {"model": "caller", "dimensions": 0}},
        "embedding.dimensions",
    ),
    (
        S,
        {"memory_space_id": "new", "embedding": {"model": "caller", "dimensions": 10**20}},
        "embedding.dimensions",
    ),
    (
        S,
        {"memory_space_id": "new", "embedding": {"model": "caller", "dimensions": 2.5}},
        "embedding.dimensions",
    ),
    (S, [], "body"),
]


@pytest.mark.parametrize(("path", "body", "field"), INVALID)
def test_a_field_that_cannot_be_accepted_is_named(
    unchanged: Api, path: str, body: Any, field: str
) -> None:
    document = refused(
        unchanged.client, "POST", path, 422, "invalid", content=json.dumps(body).encode()
    )
    assert [error["field"] for error in document["errors"]] == [field]
    assert all(error["message"] for error in document["errors"])


def test_an_unknown_embedder_is_refused(unchanged: Api) -> None:
    body = {"memory_space_id": "new", "embedding": {"model": "nobody/knows-it", "dimensions": 8}}
    document = refused(unchanged.client, "POST", S, 422, "invalid", json=body)
    assert "caller" in document["detail"]


@pytest.mark.parametrize("body", [{}, {"limit": 3}, {"query": None}, {"memory_ids": []}])
def test_a_recall_needs_a_cue(unchanged: Api, body: Any) -> None:
    refused(unchanged.client, "POST", R, 422, "invalid", json=body)


def test_a_recall_by_a_memory_that_is_not_there_is_refused(unchanged: Api) -> None:
    answer = unchanged.client.post(R, json={"memory_ids": ["nowhere"]})
    assert answer.status_code in {404, 422}, answer.text


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, None),
        ([], "body"),
        ({"retention": None}, "retention"),
        ({"retention": 5}, "retention"),
        ({"retention": ["all"]}, "retention"),
        ({"retention": ""}, "retention"),
        ({"retention": "everything"}, "retention"),
        ({"retention": {"positions": 0}}, "retention.positions"),
        ({"retention": {"positions": 1.5}}, "retention.positions"),
        ({"retention": {"positions": "1"}}, "retention.positions"),
        ({"retention": {"positions": True}}, "retention.positions"),
        ({"retention": {"positions": 1 << 63}}, "retention.positions"),
        ({"retention": {"age_s": -1}}, "retention.age_s"),
        ({"retention": {"age_s": 10**10}}, "retention.age_s"),
        ({"retention": {"positions": 1, "age_s": 1}}, "retention"),
        ({"retention": {"days": 1}}, "retention.days"),
        ({"retention": "all", "quota": 1}, "quota"),
        ({"decay": None}, "decay"),
        ({"decay": 5}, "decay"),
        ({"decay": "slowly"}, "decay"),
        ({"decay": {"family": "linear"}}, "decay.family"),
        ({"decay": {"family": None}}, "decay.family"),
        ({"decay": {"exponent": -1}}, "decay.exponent"),
        ({"decay": {"family": "exponential", "half_life_s": 0.5}}, "decay.half_life_s"),
        ({"decay": {"family": "exponential", "exponent": 1}}, "decay"),
        ({"decay": {"weight": 2}}, "decay.weight"),
        ({"decay": {"rate": 1}}, "decay.rate"),
        ({"decay": "none", "retention": "much"}, "retention"),
        ({"forgetting": None}, "forgetting"),
        ({"forgetting": 5}, "forgetting"),
        ({"forgetting": "all"}, "forgetting"),
        ({"forgetting": {"capacity": -1}}, "forgetting.capacity"),
        ({"forgetting": {"capacity": 0.5}}, "forgetting.capacity"),
        ({"forgetting": {"capacity": 10**30}}, "forgetting.capacity"),
        ({"forgetting": {"threshold": 1e99}}, "forgetting.threshold"),
        ({"forgetting": {"threshold": "low"}}, "forgetting.threshold"),
        ({"forgetting": {"threshold": 1, "grace_s": -1}}, "forgetting.grace_s"),
        ({"forgetting": {"grace_s": 1}}, "forgetting.grace_s"),
        ({"forgetting": {"capacity": 1, "spare_kinds": ["rumour"]}}, "forgetting.spare_kinds[0]"),
        ({"forgetting": {"capacity": 1, "spare_tags": [""]}}, "forgetting.spare_tags[0]"),
        ({"forgetting": {"spare_kinds": ["fact"]}}, "forgetting"),
        ({"forgetting": {"limit": 1}}, "forgetting.limit"),
        ({"consolidation": "now"}, "consolidation"),
        ({"consolidation": None}, "consolidation"),
        ({"consolidation": {"after": 0}}, "consolidation.after"),
        ({"consolidation": {"every_s": 0.5}}, "consolidation.every_s"),
        ({"consolidation": {"at": 1}}, "consolidation.at"),
        ({"quotas": "lots"}, "quotas"),
        ({"quotas": None}, "quotas"),
        ({"quotas": {"memories": -1}}, "quotas.memories"),
        ({"quotas": {"memories": 1.5}}, "quotas.memories"),
        ({"quotas": {"bytes": 10**30}}, "quotas.bytes"),
        ({"quotas": {"writes_per_second": 0}}, "quotas.writes_per_second"),
        ({"quotas": {"disk": 1}}, "quotas.disk"),
        ({"embedding": {"model": "caller", "dimensions": 3}}, "embedding"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(
    unchanged: Api, body: Any, field: str | None
) -> None:
    document = refused(unchanged.client, "PATCH", A, 422, "invalid", json=body)
    assert [error["field"] for error in document.get("errors", [])] == [field][: field is not None]


@pytest.mark.parametrize(
    ("body", "status", "problem"),
    [
        ({"id": "new"}, 422, "invalid"),
        ({"kind": "fact"}, 422, "invalid"),
        ({"content": None}, 422, "invalid"),
        ({"content": ""}, 422, "invalid"),
        ({"tags": [1]}, 422, "invalid"),
        ({"confidence": 7}, 422, "invalid"),
        ({"metadata": []}, 422, "invalid"),
        ({"expires_at": "soon"}, 422, "invalid"),
        ({}, 422, "invalid"),
        ({"embedding": [1.0]}, 409, "embedder-mismatch"),
        ([], 422, "invalid"),
    ],
)
def test_a_revision_that_cannot_be_is_refused(
    unchanged: Api, body: Any, status: int, problem: str
) -> None:
    refused(unchanged.client, "PATCH", ONE, status, problem, json=body)


LIVING = {"id": "one", "content": "again"}
CONFLICTS: list[tuple[str, Any, int, str]] = [
    (M, LIVING, 409, "memory-exists"),
    (M, {"memories": [{"content": "x"}, LIVING]}, 409, "memory-exists"),
    (M, {"content": "x", "embedding": [1.0]}, 409, "embedder-mismatch"),
    (S, {"memory_space_id": "alpha"}, 409, "space-exists"),
    (S, {"memory_space_id": "Alpha"}, 400, "memory-space-invalid"),
    (S, {"memory_space_id": ""}, 400, "memory-space-invalid"),
    (S, {"memory_space_id": "nul"}, 400, "memory-space-invalid"),
    (S, {"memory_space_id": "../up"}, 400, "memory-space-invalid"),
    (S, {"memory_space_id": "a" * 65}, 400, "memory-space-invalid"),
]


@pytest.mark.parametrize(("path", "body", "status", "problem"), CONFLICTS)
def test_what_is_at_odds_with_the_store_is_refused(
    unchanged: Api, path: str, body: Any, status: int, problem: str
) -> None:
    refused(unchanged.client, "POST", path, status, problem, json=body)


def test_an_id_twice_in_a_batch_is_refused(unchanged: Api) -> None:
    batch = [{"id": "twin", "content": "x"}, {"id": "twin", "content": "y"}]
    refused(unchanged.client, "POST", M, 422, "invalid", json={"memories": batch})


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"content": "x" * (limits.CONTENT_BYTES_MAX + 1)}, "content"),
        ({"content": "é" * (limits.CONTENT_BYTES_MAX // 2 + 1)}, "content"),
        ({"memories": [{"content": "x"}] * (limits.MEMORIES_PER_REQUEST_MAX + 1)}, "memories"),
        ({"content": "x", "metadata": {"a": "b" * limits.METADATA_BYTES_MAX}}, "metadata"),
    ],
    ids=["content", "content in bytes", "memories", "metadata"],
)
def test_what_is_too_large_is_refused(unchanged: Api, body: Any, named: str) -> None:
    document = refused(unchanged.client, "POST", M, 413, "too-large", json=body)
    assert named in document["detail"]


def test_a_body_over_the_limit_is_refused_declared_or_not(unchanged: Api) -> None:
    chunk = b"x" * (1 << 20)
    over = limits.BODY_BYTES_MAX // len(chunk) + 1
    client = unchanged.client
    refused(client, "POST", M, 413, "too-large", content=chunk * over)
    refused(client, "POST", M, 413, "too-large", content=(chunk for _ in range(over)))


def test_deep_metadata_is_refused(unchanged: Api) -> None:
    deep: Any = 1
    for _ in range(limits.METADATA_DEPTH_MAX + 1):
        deep = {"d": deep}
    body = {"content": "x", "metadata": deep}
    refused(unchanged.client, "POST", M, 422, "invalid", json=body)


# method, path, status, problem, a word of the detail
PATHS: list[tuple[str, str, int, str, str]] = [
    ("GET", f"{M}/none", 404, "memory-not-found", "none"),
    ("PATCH", f"{M}/none", 404, "memory-not-found", "none"),
    ("DELETE", f"{M}/none", 404, "memory-not-found", "none"),
    ("GET", f"{M}/a%2Fb", 404, "not-found", "%2F"),
    ("GET", "/api/v1/spaces/alpha%2Fmemories", 400, "memory-space-invalid", "%2F"),
    ("GET", f"{S}/al%00pha", 400, "memory-space-invalid", "control"),
    ("PUT", f"{S}/al%7Fpha", 400, "memory-space-invalid", "control"),
    ("GET", f"{S}/al%FFpha/memories", 400, "memory-space-invalid", "UTF-8"),
    ("GET", f"{S}/al%C3%A9", 400, "memory-space-invalid", "a-z"),
    ("GET", f"{M}/a%00b", 404, "not-found", "control"),
    ("GET", f"{M}%0A", 404, "not-found", "control"),
    ("GET", f"{M}/a%5Cb", 422, "invalid", "id"),
    ("GET", f"{M}/%20a", 422, "invalid", "id"),
    ("GET", f"{M}/%E2%80%8B", 422, "invalid", "printed"),
    ("GET", f"{M}/{'i' * 129}", 422, "invalid", "128"),
    ("GET", f"{M}/%FF", 400, "malformed", "UTF-8"),
    ("GET", f"{M}/", 404, "not-found", "served"),
    ("GET", f"{A}/", 404, "not-found", "served"),
    ("GET", "/", 404, "not-found", "/api/v1"),
    ("GET", "/api/v1", 404, "not-found", "/api/v1"),
    ("GET", "/api/v2/spaces", 404, "not-found", "/api/v1"),
    ("PUT", M, 405, "method-not-allowed", "DELETE, GET, HEAD, POST"),
    ("DELETE", M, 400, "malformed", "body is empty"),
    ("DELETE", f"{M}?purge=true", 400, "malformed", "body is empty"),
    ("DELETE", f"{M}/none?purge=true", 404, "memory-not-found", "none"),
    ("DELETE", f"{M}/a%5Cb?purge=true", 422, "invalid", "id"),
    ("DELETE", f"{ONE}?purge=maybe", 400, "malformed", "true or false"),
    ("DELETE", f"{ONE}?purge=", 400, "malformed", "true or false"),
    ("DELETE", f"{ONE}?purge=true&purge=true", 400, "malformed", "2 times"),
    ("DELETE", f"{ONE}?purged=true", 400, "malformed", "known are: purge"),
    ("PUT", ONE, 405, "method-not-allowed", "DELETE, GET, HEAD, PATCH"),
    ("POST", A, 405, "method-not-allowed", "DELETE, GET, HEAD, PATCH, PUT"),
    ("PATCH", A, 422, "invalid", "tags: unknown field"),
    ("PATCH", f"{S}/nowhere", 404, "space-not-found", "nowhere"),
    ("PATCH", f"{S}/nowhere?now=1", 404, "space-not-found", "nowhere"),
    ("PATCH", f"{A}?now=1", 400, "malformed", "now"),
    ("GET", f"{A}/purge", 405, "method-not-allowed", "POST"),
    ("DELETE", f"{A}/restore", 405, "method-not-allowed", "POST"),
    ("DELETE", f"{A}?now=1", 400, "malformed", "now"),
    ("DELETE", f"{S}/nowhere", 404, "space-not-found", "nowhere"),
    ("DELETE", f"{S}/nowhere?now=1", 404, "space-not-found", "nowhere"),
    ("DELETE", f"{S}/No", 400, "memory-space-invalid", "No"),
    ("POST", f"{A}/restore", 409, "space-exists", "nothing to restore"),
    ("POST", f"{A}/purge", 409, "space-exists", "Delete it first"),
    ("POST", f"{A}/purge?now=1", 400, "malformed", "now"),
    ("POST", f"{S}/nowhere/restore", 404, "space-not-found", "no deleted space"),
    ("POST", f"{S}/nowhere/purge", 404, "space-not-found", "no deleted space"),
    ("POST", f"{S}/nowhere/purge?now=1", 404, "space-not-found", "nowhere"),
    ("POST", f"{S}/.trash/restore", 400, "memory-space-invalid", ".trash"),
    ("GET", f"{A}?deleted=yes", 400, "malformed", "true or false"),
    ("GET", f"{S}?deleted=", 400, "malformed", "true or false"),
    ("GET", R, 405, "method-not-allowed", "POST"),
    ("OPTIONS", S, 405, "method-not-allowed", "POST"),
    ("POST", "/healthz", 405, "method-not-allowed", "GET"),
    ("GET", "/healthz?verbose=1", 400, "malformed", "verbose"),
    # What later releases bring is not there yet.
    ("POST", f"{A}/links", 400, "malformed", "body is empty"),
    ("GET", f"{A}/links", 400, "malformed", "memory_id"),
    ("GET", f"{A}/links?memory_id=", 400, "malformed", "memory_id"),
    ("GET", f"{A}/links?memory_id=nobody", 404, "memory-not-found", "nobody"),
    ("GET", f"{A}/links?memory_id=one&memory_id=two", 400, "malformed", "2 times"),
    ("GET", f"{A}/links?memory_id=one&limit=0", 400, "malformed", "limit"),
    ("GET", f"{A}/links?memory_id=one&after=-1", 400, "malformed", "after"),
    ("GET", f"{A}/links?memory_id=one&relation=x", 400, "malformed", "relation"),
    ("DELETE", f"{A}/links/one", 404, "not-found", "served"),
    ("DELETE", f"{A}/links/one/one", 422, "invalid", "itself"),
    ("DELETE", f"{A}/links/one/two", 404, "link-not-found", "related"),
    ("DELETE", f"{A}/links/one/two?relation=causes", 404, "link-not-found", "causes"),
    ("DELETE", f"{A}/links/one/two?relation=", 400, "malformed", "relation"),
    ("DELETE", f"{A}/links/one/nobody", 404, "memory-not-found", "nobody"),
    ("DELETE", f"{A}/links/nobody/two", 404, "memory-not-found", "nobody"),
    ("DELETE", f"{A}/links/one/%20two", 422, "invalid", "outer spaces"),
    ("GET", f"{A}/consolidate", 405, "method-not-allowed", "POST"),
    ("POST", f"{A}/consolidate?dry_run=true", 400, "malformed", "dry_run"),
    ("POST", f"{S}/nowhere/consolidate", 404, "space-not-found", "nowhere"),
    ("GET", f"{A}/compact", 405, "method-not-allowed", "POST"),
    ("POST", f"{A}/fork", 400, "malformed", "body is empty"),
    ("POST", f"{A}/export", 405, "method-not-allowed", "GET"),
    ("GET", f"{S}/new/import", 405, "method-not-allowed", "POST"),
    ("GET", f"{A}/health", 404, "not-found", "served"),
    ("GET", f"{M}/none/history", 404, "memory-not-found", "never was"),
    ("POST", f"{ONE}/restore", 409, "memory-exists", "not forgotten"),
    ("GET", f"{ONE}/restore", 405, "method-not-allowed", "POST"),
    ("POST", f"{M}/none/restore", 404, "memory-not-found", "none"),
    ("GET", "/metrics", 404, "not-found", "served"),
    ("GET", "/readyz", 404, "not-found", "served"),
    ("GET", f"{M}?as_of=0", 400, "malformed", "from 1 on"),
    ("GET", f"{M}?as_of=-1", 400, "malformed", "from 1 on"),
    ("GET", f"{ONE}?as_of=", 400, "malformed", "from 1 on"),
    ("GET", f"{ONE}?as_of=nan", 400, "malformed", "from 1 on"),
    ("GET", f"{ONE}?as_of=1&as_of=2", 400, "malformed", "2 times"),
    ("GET", f"{ONE}?as_of={1 << 63}", 400, "malformed", "as_of"),
    ("GET", f"{M}?as_of={'9' * 5000}", 400, "malformed", "as_of"),
    ("GET", f"{M}?as_of=2026-01-01T00:00:00", 400, "malformed", "zone"),
    ("GET", f"{M}?as_of=2026-01-01T00:00:00+01:00", 400, "malformed", "%2B"),
    ("GET", f"{M}?as_of=0001-01-01T00:00:00%2B05:00", 400, "malformed", "as_of"),
    ("GET", f"{M}?as_of=9999-01-01T00:00:00Z", 400, "position-beyond-end", "future"),
    ("GET", f"{M}?as_of={(1 << 63) - 1}", 400, "position-beyond-end", "behind position"),
    ("GET", f"{ONE}?as_of=1970-01-01T00:00:00Z", 410, "history-gone", "begins with position 1"),
    ("GET", f"{M}?colour=red", 400, "malformed", "known are: after, as_of, from, include, kind"),
    ("GET", f"{ONE}?limit=1", 400, "malformed", "include"),
    ("POST", f"{M}?on_conflict=skip", 400, "malformed", "on_conflict"),
    ("GET", f"{A}?verbose=1", 400, "malformed", "verbose"),
    ("GET", f"{M}?limit=0", 400, "malformed", "1 to 1000"),
    ("GET", f"{M}?limit=1001", 400, "malformed", "1 to 1000"),
    ("GET", f"{M}?limit=ten", 400, "malformed", "limit"),
    ("GET", f"{M}?limit=", 400, "malformed", "limit"),
    ("GET", f"{M}?limit=%D9%A1", 400, "malformed", "limit"),
    ("GET", f"{M}?limit={'9' * 5000}", 400, "malformed", "limit"),
    ("GET", f"{M}?limit=1&limit=2", 400, "malformed", "2 times"),
    ("GET", f"{M}?after=-1", 400, "malformed", "after"),
    ("GET", f"{M}?after={1 << 63}", 400, "malformed", "after"),
    ("GET", f"{M}?kind=rumour", 400, "malformed", "episode"),
    ("GET", f"{M}?tag=", 400, "malformed", "tag"),
    ("GET", f"{M}?source=", 400, "malformed", "source"),
    ("GET", f"{M}?from=yesterday", 400, "malformed", "RFC 3339"),
    ("GET", f"{M}?to=2026-01-01T00:00:00", 400, "malformed", "zone"),
    ("GET", f"{M}?from=2026-01-01T00:00:00+01:00", 400, "malformed", "%2B"),
    ("GET", f"{M}?from=0001-01-01T00:00:00%2B05:00", 400, "malformed", "from"),
    ("GET", f"{M}?include=everything", 400, "malformed", "embedding"),
    ("GET", f"{M}?tag=%FF", 400, "malformed", "UTF-8"),
    ("GET", f"{M}?{'tag=x&' * 2000}", 400, "malformed", "parameters"),
    ("GET", f"{S}?limit=0", 400, "malformed", "limit"),
    ("GET", f"{S}?after=Nobody", 400, "memory-space-invalid", "Nobody"),
    ("GET", f"{S}?state=active", 400, "malformed", "state"),
    ("PUT", f"{S}/nul", 400, "memory-space-invalid", "Windows"),
]


@pytest.mark.parametrize(
    ("method", "path", "status", "problem", "word"),
    PATHS,
    ids=[f"{c[0]} {c[1][:60]}" for c in PATHS],
)
def test_paths_and_parameters_are_read_strictly(
    unchanged: Api, method: str, path: str, status: int, problem: str, word: str
) -> None:
    request: dict[str, Any] = {"json": {"tags": []}} if method == "PATCH" else {}
    document = refused(unchanged.client, method, path, status, problem, **request)
    assert word in document["detail"]


def test_a_405_says_what_is_allowed(unchanged: Api) -> None:
    answer = unchanged.client.put(M)
    assert answer.headers["allow"] == "DELETE, GET, HEAD, POST"


OPS = {"tags_all": ["ops"]}
PURGES: dict[str, tuple[Any, str, str]] = {
    # the body, the field that is named, a word of the message
    "nothing": ({}, "filter", "required"),
    "no filter": ({"purge": True}, "filter", "required"),
    "forgotten without a condition": ({"filter": {}}, "filter", "delete the space"),
    "perhaps": ({"filter": OPS, "purge": "true"}, "purge", "a boolean"),
    "an empty filter": ({"filter": {}, "purge": True}, "filter", "needs a condition"),
    "a filter of nothing": (
        {"filter": {"tags_all": [], "metadata": {}, "kind": None}, "purge": True},
        "filter",
        "needs a condition",
    ),
    "no object": ({"filter": "ops", "purge": True}, "filter", "an object"),
    "an unknown condition": (
        {"filter": {"colour": "red"}, "purge": True},
        "filter.colour",
        "unknown",
    ),
    "a time of the wrong kind": (
        {"filter": {"from": "now"}, "purge": True},
        "filter.from",
        "RFC 3339",
    ),
    "a time out of range": (
        {"filter": {"from": "0001-01-01T00:00:00+05:00"}, "purge": True},
        "filter.from",
        "",
    ),
    "an empty tag": ({"filter": {"tags_all": [""]}, "purge": True}, "filter.tags_all[0]", ""),
    "an id too": ({"filter": OPS, "purge": True, "id": "one"}, "id", "unknown field"),
}


@pytest.mark.parametrize(("body", "field", "word"), PURGES.values(), ids=PURGES.keys())
def test_a_purge_that_cannot_be_is_refused(
    unchanged: Api, body: Any, field: str, word: str
) -> None:
    document = refused(unchanged.client, "DELETE", M, 422, "invalid", json=body)
    (error,) = document["errors"]
    assert error["field"] == field
    assert word in error["message"]


def test_an_id_and_a_filter_are_not_both_taken(unchanged: Api) -> None:
    for query in ("", "?purge=true"):
        path = f"{ONE}{query}"
        document = refused(
            unchanged.client,
            *("DELETE", path, 400, "malformed"),
            json={"filter": OPS, "purge": True},
        )
        assert "takes no body" in document["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": ""},
        {"Content-Encoding": "gzip"},
        {"Content-Encoding": "identity, gzip"},
    ],
)
def test_other_media_are_refused(unchanged: Api, headers: dict[str, str]) -> None:
    content = b'{"content": "x"}'
    refused(
        unchanged.client,
        "POST",
        M,
        415,
        "unsupported-media-type",
        content=content,
        headers=headers,
    )


@pytest.mark.parametrize(("method", "path"), [("GET", M), ("DELETE", ONE), ("GET", S)])
def test_a_body_where_none_belongs_is_refused(unchanged: Api, method: str, path: str) -> None:
    body = {"filter": {"tags_all": ["ops"]}}
    refused(unchanged.client, method, path, 400, "malformed", json=body)


@pytest.mark.parametrize(
    ("path", "headers", "content", "problem"),
    [
        ("/api/v1/spaces/No!/memories", {"Idempotency-Key": "k"}, b"{", "memory-space-invalid"),
        ("/api/v1/spaces/nowhere/memories", {"Idempotency-Key": "k"}, b"{", "space-not-found"),
        ("/api/v1/spaces/nowhere/memories?x=1", {}, b"{", "space-not-found"),
        (
            "/api/v1/spaces/nowhere/memories",
            {"Content-Type": "text/plain"},
            b"x",
            "space-not-found",
        ),
    ],
)
def test_the_space_is_checked_before_the_rest(
    unchanged: Api, path: str, headers: dict[str, str], content: bytes, problem: str
) -> None:
    answer = unchanged.client.post(path, headers=headers, content=content)
    assert answer.json()["type"].endswith("/" + problem)


def test_of_a_key_given_twice_the_last_value_counts(api: Api) -> None:
    answer = api.client.post(M, content=b'{"content": "first", "content": "last"}')
    assert answer.status_code == 201
    assert answer.json()["memories"][0]["content"] == "last"


def test_an_unexpected_exception_stays_inside(
    unchanged: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*arguments: object, **named: object) -> None:
        raise RuntimeError("secret internals")

    monkeypatch.setattr("engram.spaces.space.Space.list", broken)
    document = refused(unchanged.client, "GET", M, 500, "internal")
    monkeypatch.undo()
    assert "secret" not in json.dumps(document)
    assert "secret internals" in caplog.text
