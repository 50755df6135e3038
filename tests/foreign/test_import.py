"""`engram migrate import` on files that other software made, compared with what that says of them.

The files in `data` were made by `make foreign`, which makes them anew with the same versions (see
`requirements.lock` and `package-lock.json`) and runs this on those, in ENGRAM_FOREIGN.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engram
from tests.surfaces.command_line import CommandLine

DATA = Path(os.environ.get("ENGRAM_FOREIGN") or Path(__file__).parent / "data").absolute()
CHROMA = json.loads((DATA / "chroma.json").read_text(encoding="utf-8"))
MCP = json.loads((DATA / "mcp.json").read_text(encoding="utf-8"))


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> CommandLine:
    return CommandLine(capfd, monkeypatch, tmp_path).set(ENGRAM_DATA_ROOT=str(tmp_path / "data"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the Chroma folder, to be harmed."""
    shutil.copytree(DATA / "chroma", tmp_path / "chroma")
    return tmp_path / "chroma"


def memories(home: Path, space: str) -> dict[str, engram.Memory]:
    with engram.open(home / "data") as db:
        found = db.space(space).list(limit=1000, include_embedding=True).memories
        return {memory.id: memory for memory in found}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_knowledge_graph_comes_over_with_its_relations(run: CommandLine) -> None:
    file = str(DATA / "memory.jsonl")
    command = ("migrate", "import", file, "--format", "mcp-memory", "--space", "kg", "--json")
    done = run(*command, "--create")
    assert (done.code, done.err) == (0, "")
    receipt = done.documents[0]
    held = memories(run.home, "kg")
    entities = MCP["graph"]["entities"]
    told = {(m.metadata["entity"], m.content) for m in held.values()}
    assert told == {
        *((e["name"], f"{e['name']} ({e['entityType']})".removesuffix(" ()")) for e in entities),
        *((e["name"], f"{e['name']}: {o}") for e in entities for o in e["observations"]),
    }
    assert {m.kind for m in held.values()} == {"fact"}
    john = held["John_Smith"]
    assert (john.source, john.tags) == ("John_Smith", ("person",))
    names = {m.content: m.metadata["entity"] for m in held.values()}
    with engram.open(run.home / "data") as db:
        links = {
            (held[link.source].metadata["entity"], held[link.target].content, link.relation)
            for memory in held
            for link in db.space("kg").links(memory).links
        }
    known = {entity["name"] for entity in entities}
    relations = {
        (r["from"], r["to"], r["relationType"])
        for r in MCP["graph"]["relations"]
        if r["from"] != r["to"] and {r["from"], r["to"]} <= known
    }
    assert len(relations) == 3
    assert {(a, names[b], r) for a, b, r in links if r != "observation"} == relations
    observed = {(a, b) for a, b, r in links if r == "observation"}
    assert observed == {
        (e["name"], f"{e['name']}: {o}") for e in entities for o in e["observations"]
    }
    left = {(n["source"], n["target"], n["relation"]) for n in receipt["links_not_carried"]}
    assert left == {
        ("John_Smith", "nobody", "knows"),
        ("nowhere", "nobody", "knows"),
        ("quiet", "quiet", "is"),
    }
    again = run(*command).documents[0]["to"][0]
    assert (again["copied"], again["already_there"]) == (0, len(held))
    assert again["links"] == receipt["to"][0]["links"]


def test_each_collection_of_chroma_gets_a_space(run: CommandLine) -> None:
    before = digests(DATA / "chroma")
    command = (
        "migrate",
        "import",
        str(DATA / "chroma"),
        "--format",
        "chroma",
        "--into",
        "kb-{value}",
    )
    plan = run(*command, "--dry-run", "--json")
    assert plan.code == 1  # there is no data root yet, and a plan does not make one
    run("space", "create", "first")
    plan = run(*command, "--dry-run", "--json")
    assert [row["memories"] for row in plan.documents[0]["to"]] == [33, 33, 4]
    assert plan.documents[0]["stays"] == {"a record without a document": 1}
    done = run(*command, "--json")
    assert (done.code, done.err) == (0, "")
    assert all(row["verified"] for row in done.documents[0]["to"])
    for name, space in (
        ("notes", "kb-notes"),
        ("Euclidean", "kb-euclidean"),
        ("cosine", "kb-cosine"),
    ):
        held = memories(run.home, space)
        records = CHROMA["collections"][name]
        shown = {
            memory.metadata.get("chroma_id", memory.id): (
                memory.content,
                {k: v for k, v in memory.metadata.items() if k != "chroma_id"} or None,
            )
            for memory in held.values()
        }
        assert shown == {
            record: (given["document"], given["metadata"])
            for record, given in records.items()
            if given["document"] is not None
        }
    again = run(*command, "--json").documents[0]
    assert [row["copied"] for row in again["to"]] == [0, 0, 0]
    assert digests(DATA / "chroma") == before


@pytest.mark.parametrize("name", ["Euclidean", "cosine"])
def test_chroma_s_vectors_can_be_kept(run: CommandLine, name: str) -> None:
    """They are in its index and in its queue; those of a cosine index have length one there."""
    done = run(
        *("migrate", "import", str(DATA / "chroma"), "--format", "chroma", "--collection", name),
        *("--embeddings", "keep", "--space", "vectors", "--create", "--json"),
    )
    assert (done.code, done.err) == (0, "")
    held = memories(run.home, "vectors")
    records = CHROMA["collections"][name]
    assert set(held) == set(records)
    for record, given in records.items():
        mine, theirs = held[record].embedding, np.array(given["embedding"], np.float32)
        assert mine is not None
        if name == "cosine":
            mine, theirs = mine / np.linalg.norm(mine), theirs / np.linalg.norm(theirs)
        assert np.allclose(mine, theirs, rtol=1e-5, atol=1e-7)


def changed(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "chroma.sqlite3")) as db, db:
        for statement in statements:
            db.execute(statement)


class Evil:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("evil",))


def index_of(folder: Path) -> Path:
    """The folder of an index that is in use."""
    return next(folder.glob("*/index_metadata.pickle")).parent


def harm(folder: Path, how: str) -> None:
    if how == "no file":
        (folder / "chroma.sqlite3").unlink()
    elif how == "no database":
        (folder / "chroma.sqlite3").write_bytes(b"not a database at all" * 100)
    elif how == "another version":
        changed(folder, "ALTER TABLE embeddings RENAME COLUMN embedding_id TO name")
    elif how == "no table":
        changed(folder, "DROP TABLE segments")
    elif how == "not taken in":
        changed(folder, "UPDATE max_seq_id SET seq_id = 1")
    elif how == "cut short":
        data = (folder / "chroma.sqlite3").read_bytes()
        (folder / "chroma.sqlite3").write_bytes(data[: len(data) // 2])
    else:
        for pickled in folder.glob("*/index_metadata.pickle"):
            if how == "evil pickle":
                pickled.write_bytes(pickle.dumps({"id_to_label": Evil()}))
            elif how == "index cut short":
                (pickled.parent / "data_level0.bin").write_bytes(b"short")
            elif how == "index of another version":
                (pickled.parent / "header.bin").write_bytes(b"\2" * 100)
            else:
                pickled.unlink()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no file", "holds no chroma.sqlite3"),
        ("no database", "file is not a database"),
        ("another version", "no embedding_id in embeddings"),
        ("no table", "there is no table segments"),
        ("not taken in", "has writes that Chroma has not taken in yet"),
        ("cut short", "cannot be read as a Chroma folder"),
        ("evil pickle", "it asks for posix.mkdir"),
        ("index cut short", "is not known"),
        ("index of another version", "its version is 33686018"),
        ("index lost", "cannot be found"),
    ],
)
def test_what_is_not_understood_is_said_before_anything_is_done(
    run: CommandLine, folder: Path, how: str, said: str
) -> None:
    run("space", "create", "first")
    harm(folder, how)
    done = run(
        *("migrate", "import", str(folder), "--format", "chroma", "--collection", "Euclidean"),
        *("--embeddings", "keep", "--space", "vectors", "--create"),
    )
    assert done.code == 2, done.err
    assert said in done.err
    assert [row["memory_space_id"] for row in run("space", "list", "--json").documents] == ["first"]
    assert not (run.home / "evil").exists()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--space", "first"), 2, "one collection goes into a space"),
        (("--space", "first", "--collection", "none"), 2, "no collection is called 'none'"),
        (("--into", "all"), 2, "does not say where the name goes"),
        (("--into", "{value}", "--space", "first"), 2, "exclude each other"),
        (("--space", "absent", "--collection", "notes"), 3, "there is no space 'absent'"),
        (("--space", "first", "--collection", "notes", "--embeddings", "keep"), 4, "takes vectors"),
        (("--space", "first", "--collection", "notes", "--field", "content=x"), 2, "does not go"),
        (("--space", "first", "--collection", "notes", "--embeddings", "x"), 2, "it is keep"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    run: CommandLine, options: tuple[str, ...], code: int, said: str
) -> None:
    run("space", "create", "first")
    done = run("migrate", "import", str(DATA / "chroma"), "--format", "chroma", *options)
    assert (done.code, said in done.err) == (code, True), done.err
    assert run("list", "--space", "first", "--json").documents == []
