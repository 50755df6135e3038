"""`engram migrate import --format jsonl`, here and over a server; others are in foreign/."""

from __future__ import annotations

import json
import os
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest

import engram
from engram.cli.app import main
from engram.migrate import copying
from engram.spaces.space import Space

from .command_line import CommandLine
from .harness import Server

OLD = ("--format", "jsonl", "--field", "content=text", "--field", "metadata.role=author.role")


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> CommandLine:
    engram.open(tmp_path / "data").close()
    return CommandLine(capfd, monkeypatch, tmp_path).set(
        ENGRAM_DATA_ROOT=str(tmp_path / "data"), ENGRAM_SPACE="alpha"
    )


def written(run: CommandLine, *lines: object) -> str:
    text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    (run.home / "old.jsonl").write_text(text, encoding="utf-8")
    return "old.jsonl"


@pytest.mark.parametrize("where", ["here", "there"])
def test_lines_come_over_by_a_mapping_of_fields_once(run: CommandLine, where: str) -> None:
    server = Server(run.home / "data") if where == "there" else None
    if server is not None:
        run.set(ENGRAM_SERVER=server.url)
    said = {"text": "Yes", "author": {"role": "user"}}
    lines = [
        "\ufeff" + json.dumps({"text": "Zoë’s café", "id": 7, "tags": ["a"]}) + "\n",
        "\n",
        said,
        {"text": "No", "occurred_at": "2026-05-01T09:00:00+02:00", "kind": "fact"},
        said,
    ]
    command = ("migrate", "import", written(run, *lines), *OLD, "--json")
    assert run(*command).code == 3
    plan = run(*command, "--create", "--dry-run")
    assert (plan.code, plan.documents[0]["to"][0]["memories"]) == (0, 4)
    assert run("list", "--json").code == 3
    done = run(*command, "--create", "--receipt", "r.json")
    assert (done.code, done.err, done.documents[0]["to"][0]["copied"]) == (0, "", 4)
    held = run("list", "--json").documents
    assert [m["content"] for m in held] == ["Zoë’s café", "Yes", "No", "Yes"]
    assert [m["metadata"] for m in held] == [{}, {"role": "user"}, {}, {"role": "user"}]
    assert (held[0]["id"], held[0]["tags"]) == ("7", ["a"])
    assert (held[2]["occurred_at"], held[2]["kind"]) == ("2026-05-01T07:00:00Z", "fact")
    written(run, *lines, said)  # the file has grown
    again = run(*command).documents[0]["to"][0]
    assert (again["copied"], again["already_there"], again["verified"]) == (1, 4, True)
    written(run, {"text": "Another", "id": 7})
    conflict = run(*command)
    assert (conflict.code, conflict.documents[0]["conflicts"]) == (
        4,
        [{"memory_space_id": "alpha", "id": "7"}],
    )
    assert run("get", "7", "--json").documents[0]["content"] == "Zoë’s café"
    if server is not None:
        server.kill()


def test_fields_of_others_are_taken_where_that_is_said(run: CommandLine) -> None:
    file = written(run, {"content": "x", "id": "x", "score": 0.5, "metadata": {"own": 1}})
    command = ("migrate", "import", file, "--format", "jsonl", "--create")
    assert "'score' is not a field of a memory" in run(*command).err
    assert run(*command, "--extra", "metadata").code == 0
    assert run("get", "x", "--json").documents[0]["metadata"] == {"score": 0.5, "own": 1}
    assert run(*command, "--extra", "ignore", "--space", "beta").code == 0
    assert run("get", "x", "--space", "beta", "--json").documents[0]["metadata"] == {"own": 1}


def test_vectors_are_kept_in_a_space_that_takes_them(run: CommandLine) -> None:
    lines = ({"content": c, "id": c, "embedding": [0.1, n]} for n, c in enumerate("abc"))
    file = written(run, *lines)
    command = ("migrate", "import", file, "--format", "jsonl", "--create")
    assert run(*command, "--embeddings", "keep").code == 0
    assert run(*command, "--embeddings", "keep", "--json").documents[0]["to"][0]["copied"] == 0
    with engram.open(run.home / "data") as db:
        vector = db.space("alpha").get("c", include_embedding=True).embedding
        assert np.array_equal(vector, np.array([0.1, 2], np.float32))
    assert run(*command).code == 4  # the space has no embedder of its own
    other = written(run, {"content": "d", "embedding": [1.0, 2.0, 3.0]})
    assert run("migrate", "import", other, "--format", "jsonl", "--embeddings", "keep").code == 4


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2 is not JSON"),
        ("[1]\n", "line 2 is not a JSON object"),
        ('{"id": "x"}\n', "line 2: Object missing required field `content`"),
        ('{"content": 5}\n', "line 2: Expected `str`, got `int`"),
        ('{"content": ""}\n', "line 2: content"),
        ('{"content": "x", "id": "a/b"}\n', "line 2: id"),
        ('{"content": "x", "id": "one"}\n', "line 2: another one of the id 'one'"),
        ('{"content": "x", "metadata": 5}\n', "line 2: its metadata is not an object"),
        ('{"content": "x", "occurred_at": "yesterday"}\n', "line 2: Invalid RFC3339"),
        ('{"content": "x", "occurred_at": "2026-01-01T00:00:00"}\n', "line 2: occurred_at"),
        ('{"content": "\\ud800"}\n', "line 2"),
        ('{"content": "x", "confidence": 7}\n', "line 2: confidence"),
        ("\0\0\n", "line 2 is not JSON"),
    ],
)
def test_one_bad_line_is_named_and_nothing_is_stored(
    run: CommandLine, line: str, said: str
) -> None:
    file = written(run, {"content": "one", "id": "one"}, line, {"content": "three"})
    done = run("migrate", "import", file, "--format", "jsonl", "--create")
    assert done.code == 2
    assert said in done.err
    assert run("space", "list", "--json").documents == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("no.jsonl", "--format", "jsonl"), "No such file"),
        ((".", "--format", "mcp-memory"), "Is a directory"),
        (("", "--format", "jsonl"), "FILE is empty"),
        (("old.jsonl", "--format", "csv"), "use one of jsonl, mcp-memory, chroma"),
        (("old.jsonl", "--format", "jsonl", "--field", "content"), "is not OURS=THEIRS"),
        (("old.jsonl", "--format", "jsonl", "--field", "text=x"), "is not a field of a memory"),
        (("old.jsonl", "--format", "jsonl", "--extra", "x"), "use refuse, metadata or ignore"),
        (("old.jsonl", "--format", "jsonl", "--into", "{value}"), "does not go with"),
        (("old.jsonl", "--format", "mcp-memory"), "a knowledge graph has lines of the type"),
        (("old.jsonl", "--format", "chroma"), "is not a Chroma folder"),
    ],
)
def test_what_cannot_be_read_is_said(
    run: CommandLine, arguments: tuple[str, ...], said: str
) -> None:
    written(run, {"content": "one"})
    done = run("migrate", "import", *arguments, "--create")
    assert (done.code, said in done.err) == (2, True), done.err


def test_killed_in_between_it_goes_on(run: CommandLine) -> None:
    file = written(run, *({"content": f"Number {n}"} for n in range(40)))
    command = ("migrate", "import", file, "--format", "jsonl", "--create")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside idle threads
        child = os.fork()
    if child == 0:
        copying.BATCH_MAX = 8  # type: ignore[misc]
        remember, batches = Space.remember_many, iter(range(3))

        def mortal(self: Space, *args: object, **kwargs: object) -> object:
            done = remember(self, *args, **kwargs)  # type: ignore[arg-type]
            if next(batches) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        Space.remember_many = mortal  # type: ignore[method-assign, assignment]
        os._exit(main(command))
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    done = run(*command, "--json").documents[0]["to"][0]
    assert (done["copied"], done["already_there"], done["verified"]) == (16, 24, True)
    assert len(run("list", "--all", "--json").documents) == 40
