"""`engram migrate split`: a shared space into many, here and over a server, killed and repeated."""

from __future__ import annotations

import json
import os
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engram
from engram.cli.app import main
from engram.errors import EmbedderMismatch, Invalid
from engram.migrate import copying
from engram.migrate.copying import Copier
from engram.migrate.splitting import SharedSpace
from engram.spaces.space import Space

from .command_line import CommandLine, Done
from .harness import Server

SPLIT = ("migrate", "split", "--from", "shared", "--by", "metadata.agent")
WHEN = datetime(2026, 5, 1, 9, tzinfo=UTC)
KEPT = ("id", "kind", "content", "tags", "metadata", "confidence", "occurred_at", "expires_at")
KEPT += ("source",)
AGENTS = ("Planner", "Reviewer", None)


def fill(folder: Path) -> None:
    """Thirty memories of two agents and of nobody, linked in a chain, one belief formed of them."""
    with engram.open(folder) as db:
        shared = db.create_space("shared")
        shared.remember_many(
            {
                "id": f"m{n}",
                "content": f"Number {n} is written down here",
                "kind": ("episode", "fact", "belief")[n % 3],
                "tags": ["all", f"t{n % 2}"],
                "metadata": {"n": n, "x": [1.5, None], **agent(n)},
                "confidence": 0.5,
                "occurred_at": WHEN if n % 2 else None,
                "expires_at": datetime(2999, 1, 1, tzinfo=UTC),
                "source": f"s{n % 4}",
            }
            for n in range(30)
        )
        for n in range(27):
            shared.link(f"m{n}", f"m{n + 3}", weight=0.25, relation="next")
        shared.link("m0", "m1", relation="across")
        shared.remember_many(
            {"content": text, "metadata": {"agent": "Planner"}, "id": f"d{number}"}
            for number, text in enumerate(
                (
                    "Friday's deploy broke checkout",
                    "Another Friday deploy, and checkout broke",
                    "Checkout broke after the Friday deploy",
                )
            )
        )
        assert len(shared.consolidate()) >= 1


def agent(number: int) -> dict[str, Any]:
    name = AGENTS[number % 3]
    return {} if name is None else {"agent": name}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "data"
    fill(folder)
    return folder


@pytest.fixture
def data(filled: Path, tmp_path: Path) -> Path:
    shutil.copytree(filled, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: Path
) -> CommandLine:
    return CommandLine(capfd, monkeypatch, tmp_path).set(ENGRAM_DATA_ROOT=str(data))


@pytest.fixture
def served(data: Path) -> Iterator[str]:
    server = Server(data)
    yield server.url
    server.kill()


def contents(folder: Path, *spaces: str) -> dict[str, Any]:
    """What each space holds: memories by id with their vectors, and its links."""
    found: dict[str, Any] = {}
    with engram.open(folder) as db:
        for space in spaces:
            place = db.space(space)
            memories = place.list(limit=1000, include_embedding=True).memories
            links = {
                (link.source, link.target, link.relation, link.weight)
                for memory in memories
                for link in place.links(memory.id, limit=1000).links
            }
            kept = {m.id: [getattr(m, name) for name in KEPT] for m in memories}
            vectors = {m.id: np.asarray(m.embedding).tobytes() for m in memories}
            found[space] = (kept, vectors, links)
    return found


def check_split(folder: Path) -> None:
    """What was to go is where it was to go, in all that is kept, and only once."""
    found = contents(folder, "shared", "planner", "reviewer")
    shared = found["shared"]
    for space, rest, more in (("planner", 0, {"d0", "d1", "d2"}), ("reviewer", 1, set())):
        ids = {f"m{n}" for n in range(rest, 30, 3)} | more
        kept, vectors, links = found[space]
        assert kept == {i: shared[0][i] for i in ids}
        assert vectors == {i: shared[1][i] for i in ids}
        assert links == {(f"m{n}", f"m{n + 3}", "next", 0.25) for n in range(rest, 27, 3)}


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_shared_space_is_split_and_a_second_run_changes_nothing(
    run: CommandLine, data: Path, where: str, request: pytest.FixtureRequest
) -> None:
    if where == "there":
        run.set(ENGRAM_SERVER=request.getfixturevalue("served"))
    plan = run(*SPLIT, "--dry-run", "--json")
    assert (plan.code, plan.err) == (0, "")
    planned = plan.documents[0]
    assert [
        (r["memory_space_id"], r["exists"], r["memories"], r["links"]) for r in planned["to"]
    ] == [
        ("planner", False, 13, 9),
        ("reviewer", False, 10, 9),
    ]
    assert planned["stays"] == {"no value": 10, "a belief formed here": 2}
    assert len(planned["formed_beliefs"]) == 2
    assert planned["links_not_carried"] == [
        {
            "source": "m0",
            "target": "m1",
            "relation": "across",
            "weight": 1.0,
            "why": "its ends are in different spaces",
        }
    ]
    assert run("space", "list", "--json").documents[0]["memory_space_id"] == "shared"
    done = run(*SPLIT, "--receipt", "receipt.json", "--json")
    assert (done.code, done.err) == (0, "")
    receipt = done.documents[0]
    assert json.loads((run.home / "receipt.json").read_text("utf-8")) == receipt
    assert [(r["copied"], r["already_there"], r["verified"]) for r in receipt["to"]] == [
        (13, 0, True),
        (10, 0, True),
    ]
    before = [r["position"] for r in run("space", "list", "--json").documents]
    again = run(*SPLIT, "--json").documents[0]
    assert [(r["copied"], r["already_there"], r["verified"]) for r in again["to"]] == [
        (0, 13, True),
        (0, 10, True),
    ]
    assert [r["digest_there"] for r in again["to"]] == [r["digest_here"] for r in receipt["to"]]
    assert [r["position"] for r in run("space", "list", "--json").documents] == before
    if where == "here":
        check_split(data)
    moved = run(*SPLIT, "--forget-moved", "--yes", "--json").documents[0]
    assert (moved["forgotten"], moved["revised_meanwhile"]) == (23, [])
    left = run("list", "--space", "shared", "--json").documents
    assert {m["id"] for m in left} == {f"m{n}" for n in range(2, 30, 3)}


def test_the_plan_is_a_table_and_names_what_is_not_carried(run: CommandLine) -> None:
    done = run(*SPLIT, "--rest", "nobody", "--dry-run")
    assert done.code == 0
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0] == ["SPACE", "STATE", "MEMORIES", "SIZE", "THERE", "CONFLICTS", "LINKS", "FOR"]
    assert [line[:3] for line in lines[1:4]] == [
        ["nobody", "new", "10"],
        ["planner", "new", "13"],
        ["reviewer", "new", "10"],
    ]
    assert "2 stay: a belief formed here" in done.out
    assert "m0 -[across]-> m1: its ends are in different spaces" in done.out


def test_another_content_under_an_id_is_a_conflict_and_stays(run: CommandLine, data: Path) -> None:
    with engram.open(data) as db:
        planner = db.create_space("planner")
        planner.remember("mine", id="m0")
        planner.remember("beside", id="other")
    done = run(*SPLIT, "--forget-moved", "--yes", "--json")
    assert done.code == 4
    receipt = done.documents[0]
    assert receipt["conflicts"] == [{"memory_space_id": "planner", "id": "m0"}]
    assert [r["copied"] for r in receipt["to"]] == [12, 10]
    assert all(r["verified"] for r in receipt["to"])
    assert ("m0", "m3") in {(n["source"], n["target"]) for n in receipt["links_not_carried"]}
    assert receipt["forgotten"] == 22
    with engram.open(data) as db:
        assert db.space("planner").get("m0").content == "mine"
        assert db.space("planner").get("other").content == "beside"
        left = {m.id for m in db.space("shared").list(limit=100).memories}
        assert left == {"m0", *(f"m{n}" for n in range(2, 30, 3))}
        assert db.space("shared").restore("m1").content == "Number 1 is written down here"


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--from", "absent", "--by", "tag"), 3, "there is no space 'absent'"),
        (("--from", "shared", "--by", "tags"), 2, "use metadata.KEY, tag or source"),
        (("--from", "shared", "--by", "tag", "--several", "all"), 2, "use stay, each or rest"),
        (("--from", "shared", "--by", "tag", "--several", "rest"), 2, "needs --rest"),
        (("--from", "shared", "--by", "tag", "--map", "x"), 2, "is not VALUE=SPACE"),
        (("--from", "shared", "--by", "tag", "--map", "x=A B"), 2, "is not a memory space id"),
        (("--from", "shared", "--by", "tag", "--into", "x"), 2, "where the value goes"),
        (("--from", "shared", "--by", "tag", "--receipt", "no/r"), 2, "does not exist"),
        (("--from", "shared", "--by", "tag", "--forget-moved"), 2, "add --yes"),
        (("--from", "shared", "--by", "tag", "--into", "CON{value}"), 2, "no space of their own"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    run: CommandLine, options: tuple[str, ...], code: int, said: str
) -> None:
    done = run("migrate", "split", *options)
    assert done.code == code
    assert said in done.err
    assert len(run("space", "list", "--json").documents) == 1


def test_vectors_of_a_caller_are_carried_and_others_spaces_refused(
    run: CommandLine, data: Path
) -> None:
    spec = engram.EmbeddingSpec(model="caller", dimensions=2)
    with engram.open(data) as db:
        own = db.create_space("own", embedding=spec)
        own.remember("a", id="a", source="s1", embedding=[0.1, 0.7])
        db.create_space("taken")
    done = run("migrate", "split", "--from", "own", "--by", "source", "--json")
    assert done.code == 0
    found = contents(data, "own", "s1")
    assert found["own"] == found["s1"]
    refused = run("migrate", "split", "--from", "own", "--by", "source", "--map", "s1=taken")
    assert (refused.code, "takes vectors of" in refused.err) == (4, True)


def test_vectors_are_taken_only_from_what_the_space_is_pinned_to(db: Any) -> None:
    place = db.create_space()
    spec = place.info().embedding
    made = place.remember("the words", id="one")
    vector = place.get(made.id, include_embedding=True).embedding
    told = [{"content": "other words", "id": "two", "embedding": vector}]
    place.remember_many(told, embedded_by=spec)
    assert np.array_equal(place.get("two", include_embedding=True).embedding, vector)
    for wrong in (told, [{"content": "x", "id": "three", "embedding": vector}]):
        with pytest.raises(EmbedderMismatch):
            place.remember_many(wrong)
    other = engram.EmbeddingSpec(model=spec.model, dimensions=spec.dimensions + 1)
    with pytest.raises(EmbedderMismatch):
        place.remember_many([{"content": "x", "embedding": vector}], embedded_by=other)
    with pytest.raises(Invalid, match="embedding"):
        place.remember_many([{"content": "x"}], embedded_by=spec)


def mortal(verb: Callable[..., Any], left: list[int]) -> Callable[..., Any]:
    """As `verb`, until so many calls are left: half of the deaths come before the write, half
    after it.
    """

    def called(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and left[1] % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        done = verb(*args, **kwargs)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    return called


def killed(left: int, *arguments: str) -> bool:
    """Run a command in a process that dies as SIGKILL has it at its durable write number `left`;
    whether it did.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside idle threads
        child = os.fork()
    if child == 0:
        count = [left, left]
        for name in ("remember_many", "link", "forget"):
            setattr(Space, name, mortal(getattr(Space, name), count))
        copying.BATCH_MAX = 4  # type: ignore[misc]  # so that there are several batches
        os._exit(main(arguments))
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def test_killed_anywhere_and_run_again_it_comes_to_the_same(run: CommandLine, data: Path) -> None:
    for left in (1, 3, 4, 5, 9):
        assert killed(left, *SPLIT)
    done = run(*SPLIT, "--json")
    assert done.code == 0
    receipt = done.documents[0]
    assert all(row["verified"] for row in receipt["to"])
    assert sum(row["already_there"] for row in receipt["to"]) > 0
    check_split(data)
    for left in (4, 7):
        assert killed(left, *SPLIT, "--forget-moved", "--yes")
    ended: Done = run(*SPLIT, "--forget-moved", "--yes", "--json")
    assert (ended.code, ended.documents[0]["forgotten"]) == (0, 23 - 4 - 6)
    with engram.open(data) as db:
        left_ids = {m.id for m in db.space("shared").list(limit=100).memories}
        assert left_ids == {f"m{n}" for n in range(2, 30, 3)}
        assert [db.space(s).info().memories for s in ("planner", "reviewer")] == [13, 10]


def test_what_changes_meanwhile_is_left_where_it_is_and_told(
    run: CommandLine, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody revises before it is copied, forgets before, revises after."""
    copied, linked = Copier.run, SharedSpace.forget_moved

    def meanwhile(self: Copier) -> None:
        with_changes = self._places.space("shared")  # as another writer of the same data root
        with_changes.revise("m0", engram.Changes(content="revised before"))
        with_changes.forget("m3")
        copied(self)

    def after(self: SharedSpace, *args: Any) -> Any:
        self._place.revise("m6", engram.Changes(content="revised after"))  # type: ignore[attr-defined]
        return linked(self, *args)

    monkeypatch.setattr(Copier, "run", meanwhile)
    monkeypatch.setattr(SharedSpace, "forget_moved", after)
    done = run(*SPLIT, "--forget-moved", "--yes", "--json")
    assert done.code == 0
    receipt = done.documents[0]
    assert [row["changed_meanwhile"] for row in receipt["to"]] == [2, 0]
    assert (receipt["forgotten"], receipt["revised_meanwhile"]) == (20, ["m6"])
    assert {("m0", "m3"), ("m3", "m6")} <= {
        (link["source"], link["target"]) for link in receipt["links_not_carried"]
    }
    monkeypatch.undo()
    with engram.open(data) as db:
        left = {m.id: m.content for m in db.space("shared").list(limit=100).memories}
    assert (left["m0"], left["m6"]) == ("revised before", "revised after")
