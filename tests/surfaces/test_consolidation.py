"""Consolidation on every surface: the same beliefs, told in the same words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import engram
from engram.embedding import summariser
from engram.errors import Unavailable
from engram.memory.beliefs import Consolidation
from tests.unit.test_embedding_openai import KEY, Handler, says
from tests.unit.test_embedding_openai import Server as Model
from tests.unit.test_embedding_openai import server as writer

from .harness import SPACE, Api, Server
from .test_client import plain

__all__ = ["writer"]  # a fixture

C = f"/api/v1/spaces/{SPACE}/consolidate"
DEPLOYS = (
    "Friday's deploy broke checkout",
    "Another Friday deploy, and checkout broke",
    "Checkout broke after the Friday deploy",
)
FIELDS = ["memory_space_id", "beliefs", "position", "dry_run", "episodes", "left", "took_ms"]


def remember(where: Any) -> None:
    where.remember_many([{"id": f"d{n}", "content": text} for n, text in enumerate(DEPLOYS)])


def test_it_answers_with_what_was_formed(api: Api) -> None:
    alpha = api.db.space(SPACE)
    remember(alpha)
    before = alpha.info().position
    would = api.client.post(C, json={"dry_run": True})
    assert (would.status_code, alpha.info().position) == (200, before)
    answer = api.client.post(C)
    document = answer.json()
    assert (answer.status_code, list(document)) == (200, FIELDS)
    assert document["position"] == alpha.info().position
    assert (document["episodes"], document["left"], document["dry_run"]) == (5, 2, False)
    (belief,) = document["beliefs"]
    assert belief["sources"] == [{"id": f"d{n}", "revision": 1} for n in range(3)]
    assert belief["content"].split("\n") == list(DEPLOYS)
    assert [belief["content"][c["start"] : c["end"]] for c in belief["citations"]] == list(DEPLOYS)
    assert (belief["action"], belief["revision"]) == ("formed", 1)
    assert would.json()["beliefs"] == [{**belief, "revision": None}]
    assert would.json()["dry_run"] is True
    memory = api.client.get(f"/api/v1/spaces/{SPACE}/memories/{belief['id']}").json()
    assert (memory["kind"], memory["content"]) == ("belief", belief["content"])
    history = api.client.get(f"/api/v1/spaces/{SPACE}/memories/{belief['id']}/history").json()
    told = history["events"][-1]
    assert told["type"] == "memory.consolidated"
    for field in ("id", "revision", "sources", "strength", "citations", "summariser"):
        assert told[field] == belief[field]
    again = api.client.post("/api/v1/consolidate", headers={"X-Memory-Space": SPACE}, json={})
    assert (again.json()["beliefs"], again.json()["position"]) == ([], document["position"])


def test_all_handles_have_it(space: Any) -> None:
    remember(space)
    would = space.consolidate(dry_run=True)
    assert type(would) is Consolidation
    done = space.consolidate()
    assert (len(done), done.position) == (1, space.info().position)
    assert [plain(belief) for belief in would] == [
        {**plain(belief), "revision": None} for belief in done
    ]
    (belief,) = done
    told = space.history(belief.id)[-1]
    assert (told.type, told.sources) == ("memory.consolidated", belief.sources)
    fed = list(space.events(after=0, types=["memory.consolidated"], follow=False))
    assert [event.position for event in fed] == [told.position]
    space.forget("d0")
    assert space.history(belief.id)[-1].reason == "source-forgotten"
    assert space.consolidate().beliefs == ()


def test_a_space_is_told_when_to_consolidate_by_itself(space: Any) -> None:
    assert str(space.info().consolidation) == "off"
    info = space.configure(consolidation="after:3,every:1d")
    assert info.consolidation == engram.Rhythm(after=3, every_s=86_400)
    (event,) = space.events(after=0, types=["space.configured"], follow=False)
    assert event.consolidation == info.consolidation
    fed = space.events(after=event.position, types=["memory.consolidated"], follow=True)
    remember(space)
    assert [source.id for source in next(fed).sources] == ["d0", "d1", "d2"]
    fed.close()
    assert str(space.configure(consolidation=engram.Rhythm()).consolidation) == "off"


def test_a_model_writes_where_the_environment_names_one(
    writer: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    start_server: Callable[..., Server],
    cli: Callable[..., Any],
) -> None:
    monkeypatch.setenv(summariser.VARIABLE, "openai:test-model")
    writer.always = says(401, {"error": {"message": f"Incorrect API key: {KEY}"}})
    url = start_server(tmp_path / "served").url
    with engram.Client(url) as client, engram.Client(url, timeout_s=1) as impatient:
        space = client.create_space("alpha")
        remember(space)
        before = space.info().position
        with pytest.raises(Unavailable, match=r"summariser 'openai:test-model'.*\[secret\]"):
            space.consolidate()
        refused = cli("consolidate", "--space", "alpha", "--server", url)
        assert (refused.returncode, KEY in refused.stderr) == (1, False)
        assert "summariser 'openai:test-model'" in refused.stderr
        assert space.info().position == before

        def slowly(handler: Handler, body: Any) -> None:
            handler.server.released.wait(2)
            handler.answer(200, {"choices": [{"message": {"content": "Friday deploys break."}}]})

        writer.always = slowly
        (belief,) = impatient.space("alpha").consolidate()
        told = space.history(belief.id)[-1]
    assert (belief.content, belief.summariser) == ("Friday deploys break.", "openai:test-model")
    assert [(each.id, each.start, each.end) for each in belief.citations] == [
        (f"d{n}", 0, len(belief.content)) for n in range(3)
    ]
    assert (told.summariser, told.citations) == (belief.summariser, belief.citations)


@pytest.mark.parametrize("body", [{"dry_run": "yes"}, {"dry_run": None}, {"dry": True}])
def test_what_makes_no_sense_is_refused(api: Api, body: Any) -> None:
    before = api.everything()
    assert api.client.post(C, json=body).status_code == 422
    assert api.everything() == before
