"""Writes on a condition, through every door: where an id lives, where nobody has changed a memory
meanwhile, where a filter matches; and reads of what the caller may have already.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

import engram
from engram.errors import Invalid, MemoryExists, MemoryNotFound, Stale
from engram.spaces import forgetting

from .command_line import CommandLine
from .harness import Api

S = "/api/v1/spaces"


def test_a_batch_skips_what_lives_or_replaces_it_or_is_refused_whole(space: Any) -> None:
    first = space.remember("one", id="a", tags=["t"])
    space.remember("gone", id="b")
    space.forget("b")
    items = [{"id": "a", "content": "uno"}, {"id": "b", "content": "dos"}, "tres"]
    with pytest.raises(MemoryExists):
        space.remember_many(items)
    assert space.info().position == 4

    done = space.remember_many(items, on_conflict="skip")
    assert [m.content for m in done.memories] == ["one", "dos", "tres"]
    assert (done.memories[0], done.skipped, done.position) == (first, ("a",), 6)
    assert (done.memories[1].revision, done.memories[1].position) == (2, 5)

    done = space.remember_many(items[:2], on_conflict="replace")
    assert [(m.content, m.revision, m.tags) for m in done.memories] == [
        ("uno", 2, ()),
        ("dos", 3, ()),
    ]
    assert (done.skipped, done.position) == ((), 8)
    assert [event.type for event in space.history("a")] == ["memory.stored", "memory.revised"]

    again = space.remember_many(items[:2], on_conflict="skip")
    assert (again.skipped, again.position, again.memories) == (("a", "b"), 8, done.memories)
    assert space.remember("x", id="a", on_conflict="skip") == done.memories[0]
    assert space.remember("x", id="a", on_conflict="replace").revision == 3
    with pytest.raises(Invalid, match=r"^kind: is 'fact'") as caught:
        space.remember("x", id="a", kind="fact", on_conflict="replace")
    assert caught.value.errors[0].field == "kind"
    with pytest.raises(Invalid, match="on_conflict"):
        space.remember_many(["x"], on_conflict="ignore")


def test_what_was_skipped_is_told_as_it_was_when_that_was_decided(
    space: Any, request: pytest.FixtureRequest
) -> None:
    """Many at once, of which each revision is told by one call alone."""
    if "embedded" not in request.node.callspec.id:
        pytest.skip("one door is enough to race")
    space.remember("0", id="a")
    told: list[engram.Memory] = []

    def work(name: int) -> None:
        for step in range(20):
            if name == 0:
                space.remember(str(step), id="a", on_conflict="replace")
            else:
                told.append(space.remember("x", id="a", on_conflict="skip"))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = {event.position: event.memory for event in space.history("a")}
    assert len(told) == 60
    assert all(memory == held[memory.position] for memory in told)


def test_only_the_revision_that_was_read_is_changed(db: Any) -> None:
    space = db.create_space()
    first = space.remember("one", id="a")
    second = space.revise("a", engram.Changes(source="x"), if_match=first.etag)
    assert second.etag != first.etag
    assert {space.get("a").etag, space.list().memories[0].etag} == {second.etag}
    assert space.recall("one").results[0].memory.etag == second.etag
    position = space.info().position
    for stale in (
        lambda: space.revise("a", engram.Changes(source="y"), if_match=first.etag),
        lambda: space.forget("a", if_match=[first.etag, "made-up"]),
        lambda: space.purge("a", if_match=first.etag),
    ):
        with pytest.raises(Stale, match="Get it again"):
            stale()
    assert space.get("a") == second
    space.forget("a", if_match=[first.etag, second.etag])
    with pytest.raises(MemoryNotFound):
        space.forget("a", if_match=second.etag)
    with pytest.raises(Stale):
        space.restore("a", if_match=first.etag)
    third = space.restore("a", if_match=second.etag)
    assert third.etag not in (first.etag, second.etag)
    space.revise("a", engram.Changes(source="z"), if_match="*")
    assert space.info().position >= position + 3

    other = db.create_space()
    twin = other.remember("one", id="a")
    assert (twin.position, twin.revision) == (first.position, first.revision)
    with pytest.raises(Stale):
        other.forget("a", if_match=first.etag)
    (event,) = other.history("a")
    with pytest.raises(ValueError, match="no etag"):
        _ = event.memory.etag
    with pytest.raises(Invalid, match="if_match"):
        other.forget("a", if_match=7)


def test_of_many_who_change_the_same_revision_one_does(space: Any) -> None:
    etag = space.remember("one", id="a").etag
    done: list[str] = []

    def work(name: str) -> None:
        try:
            space.revise("a", engram.Changes(source=name), if_match=etag)
            done.append(name)
        except Stale:
            pass

    threads = [threading.Thread(target=work, args=(str(name),)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [space.get("a").source] == done
    assert space.get("a").revision == 2


def test_what_matches_is_forgotten(space: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "FORGOTTEN_PER_RECORD_MAX", 2)
    space.remember_many(
        [
            {"id": f"m{i}", "content": f"number {i}", "tags": ["odd"] if i % 2 else []}
            for i in range(9)
        ]
    )
    with pytest.raises(Invalid, match="delete the space"):
        space.forget_matching(engram.Filter())
    odd = engram.Filter(tags_all=("odd",))
    done = space.forget_matching(odd)
    assert (done.memory_space_id, done.count, done.position) == (space.id, 4, 14)
    assert [m.id for m in space.list().memories] == ["m0", "m2", "m4", "m6", "m8"]
    again = space.forget_matching(odd)
    assert (again.count, again.position) == (0, 14)
    assert space.restore("m1").tags == ("odd",)


def test_what_is_changed_meanwhile_is_forgotten_if_it_still_matches(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "FORGOTTEN_PER_RECORD_MAX", 1)
    with engram.open(tmp_path) as db:
        space = db.create_space("a")
        space.remember_many(
            [{"id": name, "content": name, "tags": ["t"]} for name in ("x", "stays", "goes")]
        )
        decided = forgetting.ForgetMatching

        def changing(matched: Any, now_us: int) -> Any:
            if matched == [("x", 1)]:
                space.revise("stays", engram.Changes(tags=()))
                space.revise("goes", engram.Changes(source="s"))
                space.remember("came later", id="new", tags=["t"])
            return decided(matched, now_us)

        monkeypatch.setattr(forgetting, "ForgetMatching", changing)
        assert space.forget_matching(engram.Filter(tags_all=("t",))).count == 2
        assert [m.id for m in space.list().memories] == ["stays", "new"]


@pytest.fixture
def http(api: Api) -> TestClient:
    return api.client


@pytest.fixture
def path(api: Api) -> str:
    """A memory in a space of its own."""
    space = api.db.create_space()
    space.remember("one", id="a", tags=["t"])
    return f"{S}/{space.id}/memories/a"


def test_a_tag_is_given_with_each_memory_and_with_nothing_else(http: TestClient, path: str) -> None:
    memories = path.removesuffix("/a")
    made = http.post(memories, json={"content": "two", "id": "b"})
    assert made.headers["etag"] == http.get(f"{memories}/b").headers["etag"]
    revised = http.patch(path, json={"source": "x"})
    assert revised.headers["etag"] == http.get(f"{path}?include=embedding").headers["etag"]
    http.delete(path)
    restored = http.post(f"{path}/restore")
    assert restored.headers["etag"] not in (revised.headers["etag"], made.headers["etag"])
    for answer in (http.get(memories), http.post(memories, json={"memories": [{"content": "x"}]})):
        assert "etag" not in answer.headers
    assert "etag" not in http.get(path).json()


def test_what_the_caller_has_is_not_sent_again(http: TestClient, path: str) -> None:
    tag = http.get(path).headers["etag"]
    for held in (tag, f"W/{tag}", f'"other", {tag}', "*", f' , {tag} ,"x,y"'):
        answer = http.get(path, headers={"If-None-Match": held})
        assert (answer.status_code, answer.content) == (304, b""), held
        assert answer.headers["etag"] == tag
        assert http.head(path, headers={"If-None-Match": held}).status_code == 304
    for held in ('"other"', '""', 'W/"x", "y"'):
        assert http.get(path, headers={"If-None-Match": held}).status_code == 200
    assert http.get(f"{path}x", headers={"If-None-Match": "*"}).status_code == 404
    assert http.get(path.removesuffix("/a"), headers={"If-None-Match": tag}).status_code == 200


def test_a_stale_tag_changes_nothing(http: TestClient, path: str) -> None:
    tag = http.get(path).headers["etag"]
    weak = {"If-Match": f"W/{tag}"}
    for headers in ({"If-Match": '"x"'}, weak, {"If-Match": '"x", W/"y"'}):
        for ask in (
            lambda headers: http.patch(path, json={"source": "s"}, headers=headers),
            lambda headers: http.delete(path, headers=headers),
            lambda headers: http.delete(f"{path}?purge=true", headers=headers),
        ):
            answer = ask(headers)
            assert answer.status_code == 412
            assert answer.json()["type"].endswith("/stale")
    assert http.get(path).headers["etag"] == tag
    for good in ("{}", '"x",{}', "*"):
        headers = {"If-Match": good.format(tag)}
        answer = http.patch(path, json={"source": "s"}, headers=headers)
        assert answer.status_code == 200
        tag = answer.headers["etag"]
    assert http.delete(path, headers={"If-Match": tag}).status_code == 200
    assert http.post(f"{path}/restore", headers={"If-Match": '"x"'}).status_code == 412
    assert http.post(f"{path}/restore", headers={"If-Match": tag}).status_code == 200
    assert http.patch(f"{path}x", json={"source": "s"}, headers=weak).status_code == 404
    http.delete(f"{path}?purge=true")
    assert http.delete(f"{path}?purge=true", headers={"If-Match": tag}).status_code == 412


@pytest.mark.parametrize(
    ("method", "where", "headers", "word"),
    [
        ("PATCH", "", {"If-Match": "abc"}, "double quotes"),
        ("PATCH", "", {"If-Match": '"a" "b"'}, "double quotes"),
        ("PATCH", "", {"If-Match": '*, "a"'}, "double quotes"),
        ("PATCH", "", {"If-Match": 'w/"a"'}, "double quotes"),
        ("PATCH", "", {"If-Match": ""}, "double quotes"),
        ("GET", "", {"If-None-Match": '"a'}, "double quotes"),
        ("GET", "", {"If-Match": '"a"'}, "PATCH, DELETE"),
        ("PATCH", "", {"If-None-Match": "*"}, "where a memory is read"),
        ("POST", "/..", {"If-None-Match": "*"}, "where a memory is read"),
        ("POST", "/..", {"If-Match": "*"}, "PATCH, DELETE"),
        ("DELETE", "/..", {"If-Match": "*"}, "PATCH, DELETE"),
        ("PUT", "/../..", {"If-Match": "*"}, "PATCH, DELETE"),
    ],
)
def test_conditions_that_cannot_be_read_or_are_not_understood_are_refused(
    api: Api, path: str, method: str, where: str, headers: dict[str, str], word: str
) -> None:
    target = "/".join(path.split("/")[: -where.count("..") or None])
    position = api.db.space(path.split("/")[4]).info().position
    body = {"content": "x"} if method == "POST" else {"source": "s"}
    answer = api.client.request(method, target, json=body, headers=headers)
    assert answer.status_code == 400
    assert word in answer.json()["detail"]
    assert api.db.space(path.split("/")[4]).info().position == position


def test_what_matches_is_forgotten_or_purged_by_body_or_parameter(
    http: TestClient, path: str
) -> None:
    memories = path.removesuffix("/a")
    ask: Callable[..., Any] = http.request
    matching = {"filter": {"tags_all": ["t"]}}
    forgotten = ask("DELETE", memories, json={**matching, "purge": False})
    assert (forgotten.status_code, forgotten.json()["count"]) == (200, 1)
    assert set(forgotten.json()) == {"memory_space_id", "count", "position"}
    nothing = ask("DELETE", memories, json=matching).json()
    assert (nothing["count"], nothing["position"]) == (0, forgotten.json()["position"])
    assert http.post(f"{path}/restore").status_code == 200
    refused = ask("DELETE", f"{memories}?purge=true", json={**matching, "purge": False})
    assert refused.status_code == 422
    purged = ask("DELETE", f"{memories}?purge=true", json=matching)
    assert purged.json()["receipt"]["count"] == 1
    assert ask("DELETE", memories, json={**matching, "purge": True}).json() == {"receipt": None}


def test_the_command_line_has_the_same_conditions(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    run = CommandLine(capsys, monkeypatch, tmp_path)
    run.set(ENGRAM_DATA_ROOT=str(tmp_path / "data"), ENGRAM_SPACE="a")
    run("space", "create", "a")
    run("remember", "one", "--id", "x", "--tag", "t")
    etag = run("get", "x", "--etag").out.strip()
    assert "as it is" in run("remember", "two", "--id", "x", "--on-conflict", "skip").out
    done = run("remember", "two", "--id", "x", "--tag", "t", "--on-conflict", "replace")
    assert "as revision 2 at position 3" in done.out
    stale = run("revise", "x", "--source", "s", "--if-match", etag)
    assert (stale.code, stale.out) == (4, "")
    etag = run("get", "x", "--etag").out.strip()
    assert run("revise", "x", "--source", "s", "--if-match", etag).code == 0

    (tmp_path / "f.jsonl").write_text('{"id": "x", "content": "1"}\n{"id": "y", "content": "2"}\n')
    assert run("remember", "--file", "f.jsonl").code == 4
    done = run("remember", "--file", "f.jsonl", "--on-conflict", "skip")
    assert done.out == "remembered 1 memory; 1 were there; durable up to position 5\n"
    (document,) = run("remember", "--file", "f.jsonl", "--on-conflict", "skip", "--json").documents
    assert (document["memories"], document["skipped"], document["position"]) == (0, 2, 5)

    planned = run("forget", "--tag", "t", "--dry-run")
    assert (planned.code, planned.out.splitlines()[-1]) == (0, "1 memory of a would be forgotten")
    (document,) = run("forget", "--tag", "t", "--dry-run", "--json").documents
    assert document == {"memory_space_id": "a", "dry_run": True, "count": 1}
    assert run("forget", "--tag", "t").code == 2  # there is no terminal to ask on
    assert run("forget", "--tag", "t", "--yes").out == (
        "forgot 1 memory of a, the last at position 6\n"
    )
    (document,) = run("forget", "--tag", "t", "--yes", "--json").documents
    assert document["count"] == 0
    assert run("restore", "x", "--if-match", etag).code == 4
