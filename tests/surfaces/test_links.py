"""Links over REST: the answers by the contract, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engram import limits

from .harness import OTHER, SPACE, Api

LINKS = f"/api/v1/spaces/{SPACE}/links"
GIVEN = {"source": "one", "target": "two", "weight": 0.8, "relation": "causes"}


def test_a_link_is_made_listed_and_removed(api: Api) -> None:
    made = api.client.post(LINKS, json=GIVEN)
    assert made.status_code == 201
    position = api.db.space(SPACE).info().position
    link = {"memory_space_id": SPACE, **GIVEN, "position": position}
    assert made.json() == link
    for end in ("one", "two"):
        listed = api.client.get(LINKS, params={"memory_id": end})
        assert (listed.status_code, listed.json()) == (200, {"links": [link], "next": None})
    plain = api.client.post(LINKS, json={"source": "two", "target": "one", "weight": 1})
    assert plain.json()["relation"] == "related"
    first = api.client.get(LINKS, params={"memory_id": "one", "limit": 1}).json()
    assert (first["links"], first["next"]) == ([link], position)
    second = api.client.get(LINKS, params={"memory_id": "one", "after": first["next"]}).json()
    assert (second["links"], second["next"]) == ([plain.json()], None)
    removed = api.client.delete(f"{LINKS}/one/two", params={"relation": "causes"})
    assert removed.status_code == 200
    assert removed.json() == {
        "source": "one",
        "target": "two",
        "relation": "causes",
        "position": position + 2,
    }
    again = api.client.delete(f"{LINKS}/one/two", params={"relation": "causes"})
    assert (again.status_code, again.json()["memory_space_id"]) == (404, SPACE)
    assert again.json()["type"].endswith("/link-not-found")
    assert api.client.delete(f"{LINKS}/two/one").status_code == 200
    assert api.client.get(LINKS, params={"memory_id": "one"}).json()["links"] == []


def test_the_header_names_the_space_too(api: Api) -> None:
    header = {"X-Memory-Space": SPACE}
    made = api.client.post("/api/v1/links", headers=header, json=GIVEN)
    assert made.status_code == 201
    query = {"memory_id": "two"}
    listed = api.client.get("/api/v1/links", headers=header, params=query).json()
    assert listed["links"] == [made.json()]
    path = "/api/v1/links/one/two?relation=causes"
    assert api.client.delete(path, headers=header).status_code == 200


def test_ids_and_relations_survive_the_path(api: Api) -> None:
    space = api.db.space(SPACE)
    source = space.remember("odd", id="a?b#c%2F +ü").id
    relation = "führt/zu & mehr?"
    body = {"source": source, "target": "one", "weight": 0.5, "relation": relation}
    assert api.client.post(LINKS, json=body).status_code == 201
    path = f"{LINKS}/a%3Fb%23c%252F%20%2B%C3%BC/one"
    assert api.client.delete(path, params={"relation": relation}).status_code == 200
    assert space.links("one").links == ()
    space.forget(source)


@pytest.mark.parametrize(
    ("changed", "status", "field"),
    [
        *(({"weight": weight}, 422, "weight") for weight in (0, -0.5, 1.01, True, "1", None)),
        ({"target": "one"}, 422, "target"),
        ({"relation": ""}, 422, "relation"),
        ({"relation": "a\nb"}, 422, "relation"),
        ({"relation": "x" * (limits.RELATION_CHARACTERS_MAX + 1)}, 422, "relation"),
        ({"relation": None}, 422, "relation"),
        ({"relation": 7}, 422, "relation"),
        ({"source": ""}, 422, "source"),
        ({"target": "a/b"}, 422, "target"),
        ({"source": 1}, 422, "source"),
        ({"kind": "x"}, 422, "kind"),
        ({"source": "nobody"}, 404, None),
        ({"target": "nobody"}, 404, None),
    ],
)
def test_what_is_no_link_is_refused(
    unchanged: Api, changed: dict[str, Any], status: int, field: str | None
) -> None:
    answer = unchanged.client.post(LINKS, json={**GIVEN, **changed})
    assert answer.status_code == status, answer.text
    problem = answer.json()
    if field is None:
        assert problem["type"].endswith("/memory-not-found")
    else:
        assert [error["field"] for error in problem["errors"]] == [field]


@pytest.mark.parametrize("missing", ["source", "target", "weight"])
def test_what_has_to_be_given(unchanged: Api, missing: str) -> None:
    body = {name: value for name, value in GIVEN.items() if name != missing}
    answer = unchanged.client.post(LINKS, json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"field": missing, "message": "is required"}]


def test_a_number_that_is_none_is_no_weight(unchanged: Api) -> None:
    for number in ("NaN", "1e999"):
        body = json.dumps(GIVEN).replace("0.8", number)
        answer = unchanged.client.post(LINKS, content=body)
        assert answer.status_code in {400, 422}


def test_memories_of_another_space_are_not_there(unchanged: Api) -> None:
    path = f"/api/v1/spaces/{OTHER}/links"
    assert unchanged.client.post(path, json=GIVEN).status_code == 404
    assert unchanged.client.get(path, params={"memory_id": "one"}).status_code == 404
    assert unchanged.client.delete(f"{path}/one/two").status_code == 404
