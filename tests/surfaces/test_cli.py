"""The command line: spaces, logs, streams and the way in. Memories have tests of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import engram
from engram.cli.app import main

from .harness import Server

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
GROUPS = ["", "space", "log", "config"]


def test_a_space_s_way_through_the_commands(cli: Cli) -> None:
    created = cli("space", "create", "alpha")
    assert (created.returncode, created.stdout, created.stderr) == (0, "created alpha\n", "")
    again = cli("space", "create", "alpha")
    assert (again.returncode, again.stdout) == (4, "")
    assert re.fullmatch(r"engram: .*exists.*\n", again.stderr)
    tolerant = cli("space", "create", "alpha", "--if-not-exists")
    assert (tolerant.returncode, tolerant.stdout) == (0, "alpha exists already\n")
    minted = cli("space", "create").stdout.removeprefix("created ").strip()
    vectors = cli("space", "create", "vectors", "--dimensions", "3", "--json")
    assert json.loads(vectors.stdout)["embedding"] == {"model": "caller", "dimensions": 3}
    assert json.loads(vectors.stdout)["created"] is True
    listed = cli("space", "list")
    assert listed.returncode == 0
    for name in ("alpha", minted, "vectors"):
        assert name in listed.stdout
    lines = cli("space", "list", "--json").stdout.splitlines()
    assert [json.loads(line)["memory_space_id"] for line in lines] == sorted(
        ["alpha", minted, "vectors"]
    )
    shown = cli("space", "show", "alpha")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert re.search(r"^state +active$", shown.stdout, re.MULTILINE)
    document = json.loads(cli("space", "show", "alpha", "--json").stdout)
    assert document["memory_space_id"] == "alpha"
    assert document["position"] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["space", "create", "Alpha"], 2, "memory-space-invalid"),
        (["space", "create", "con"], 2, "memory-space-invalid"),
        (["space", "create", "--if-not-exists"], 2, "malformed"),
        (["space", "create", "a", "--dimensions", "0"], 2, "invalid"),
        (["space", "create", "a", "--dimensions", "x"], 2, "malformed"),
        (["space", "create", "a", "--embedding", "openai:m"], 2, "malformed"),
        (["space", "create", "a", "--embedding", "nope", "--dimensions", "3"], 2, "invalid"),
        (
            ["space", "create", "a", "--embedding", "wordllama-l2-256", "--dimensions", "3"],
            2,
            "invalid",
        ),
        (["space", "create", "a", "b"], 2, "malformed"),
        (["space", "create", "a", "--quotas", "1"], 2, "malformed"),
        (["space", "show"], 2, "malformed"),
        (["space", "show", "nowhere"], 3, "space-not-found"),
        (["space", "show", "No Where"], 2, "memory-space-invalid"),
        (["space", "purge", "alpha"], 2, "malformed"),
        (["space", "delete", "alpha"], 2, "malformed"),
        (["space", "purge", "alpha", "--yes"], 4, "space-exists"),
        (["space", "restore", "alpha"], 4, "space-exists"),
        (["space", "delete", "nowhere", "--yes"], 3, "space-not-found"),
        (["space", "restore", "nowhere"], 3, "space-not-found"),
        (["space", "purge", "nowhere", "--yes"], 3, "space-not-found"),
        (["space", "delete", "No", "--yes"], 2, "memory-space-invalid"),
        (["remember", "x"], 2, "memory-space-required"),
        (["--nope"], 2, "malformed"),
    ],
)
def test_errors_are_one_line_or_one_document(
    cli: Cli, arguments: list[str], code: int, problem: str
) -> None:
    assert cli("space", "create", "alpha").returncode == 0
    plain = cli(*arguments)
    assert (plain.returncode, plain.stdout) == (code, "")
    assert re.fullmatch(r"engram: .+\n", plain.stderr)
    as_json = cli(*arguments, "--json")
    assert (as_json.returncode, as_json.stdout) == (code, "")
    assert json.loads(as_json.stderr)["type"].endswith("/" + problem)
    assert cli("space", "list", "--json").stdout.count("\n") == 1


def test_reading_a_data_root_does_not_make_one(cli: Cli, tmp_path: Path) -> None:
    for arguments in (["list"], ["show", "alpha"]):
        done = cli("space", *arguments)
        assert done.returncode == 1
        assert str(tmp_path / "data") in done.stderr
    assert not (tmp_path / "data").exists()


def test_the_data_root_is_the_flag_then_the_environment_then_xdg(cli: Cli, tmp_path: Path) -> None:
    flagged = tmp_path / "flagged"
    cli("space", "create", "by-flag", "--data-root", str(flagged))
    cli("space", "create", "by-environment")
    xdg = {"ENGRAM_DATA_ROOT": "", "XDG_DATA_HOME": str(tmp_path / "xdg")}
    cli("space", "create", "by-xdg", **xdg)
    home = {"ENGRAM_DATA_ROOT": "", "XDG_DATA_HOME": "relative", "HOME": str(tmp_path / "home")}
    cli("space", "create", "by-home", **home)
    assert (flagged / "by-flag").is_dir()
    assert (tmp_path / "data" / "by-environment").is_dir()
    assert (tmp_path / "xdg" / "engram" / "by-xdg").is_dir()
    assert (tmp_path / "home" / ".local" / "share" / "engram" / "by-home").is_dir()


@pytest.mark.parametrize("command", GROUPS)
def test_a_command_left_unfinished_is_answered_with_help(cli: Cli, command: str) -> None:
    done = cli(*command.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Usage: engram {command}".rstrip())


def test_the_version_is_told(cli: Cli) -> None:
    assert cli("--version").stdout == f"engram {engram.__version__}\n"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from engram.cli.app import main; main(['--help']); "
        "heavy = {'numpy', 'msgspec', 'starlette', 'uvicorn', 'rich', 'wal'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Generous, for loaded machines; a quiet one takes under a tenth of a second.
    assert time.monotonic() - started < 2


def test_a_broken_pipe_ends_quietly(cli: Cli, tmp_path: Path) -> None:
    for number in range(50):
        assert main(["space", "create", f"s{number}", "--data-root", str(tmp_path / "data")]) == 0
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed_pipe:
        done = subprocess.run(
            [sys.executable, "-m", "engram.cli.app", "space", "list", "--json"],
            stdout=closed_pipe,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "ENGRAM_DATA_ROOT": str(tmp_path / "data")},
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_will_do(cli: Cli, encoding: str) -> None:
    done = cli("space", "show", "sp\u00e4ce\u2026\u8a18", PYTHONIOENCODING=encoding, NO_COLOR="1")
    assert done.returncode == 1 if "does not exist" in done.stderr else 2
    assert "Traceback" not in done.stderr
    created = cli("space", "create", "a", "--json", PYTHONIOENCODING=encoding)
    assert json.loads(created.stdout)["memory_space_id"] == "a"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with two spaces, three memories in each."""
    with engram.open(tmp_path / "data") as db:
        for name in ("alpha", "beta"):
            space = db.create_space(
                name, embedding=engram.EmbeddingSpec(model="caller", dimensions=2)
            )
            for number in range(3):
                space.remember(f"memory {number}", embedding=[1.0, number])
    return tmp_path / "data"


def last_segment(space: Path) -> Path:
    return sorted((space / "log").glob("*.seg"))[-1]


def test_sound_spaces_verify(cli: Cli, root: Path) -> None:
    done = cli("log", "verify", str(root))
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(",")[:2] for line in done.stdout.splitlines()] == [
        ["alpha: ok", " 3 memories"],
        ["beta: ok", " 3 memories"],
    ]
    one = cli("log", "verify", str(root / "alpha"), "--json")
    document = json.loads(one.stdout)
    assert (document["memory_space_id"], document["ok"], document["position"]) == ("alpha", True, 4)
    assert document["damage"] == []


def test_damage_is_found_named_and_left_as_it_is(cli: Cli, root: Path) -> None:
    segment = last_segment(root / "alpha")
    data = bytearray(segment.read_bytes())
    place = data.index(b"memory 0")
    data[place] ^= 1
    segment.write_bytes(data)
    done = cli("log", "verify", str(root))
    assert done.returncode == 5
    assert "alpha: DAMAGED" in done.stdout
    assert f"damage in log/{segment.name} at byte " in done.stdout
    assert "beta: ok" in done.stdout
    documents = [
        json.loads(x) for x in cli("log", "verify", str(root), "--json").stdout.splitlines()
    ]
    assert [document["ok"] for document in documents] == [False, True]
    assert segment.read_bytes() == data


def test_an_unfinished_tail_is_reported_but_is_no_damage(cli: Cli, root: Path) -> None:
    segment = last_segment(root / "alpha")
    whole = segment.read_bytes().rstrip(b"\0")
    segment.write_bytes(whole[:-3])
    (root / "alpha" / "WATERMARK").unlink()  # it knows that this was durable
    done = cli("log", "verify", str(root / "alpha"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "unfinished tail" in done.stdout


@pytest.mark.parametrize(("name", "code"), [("nowhere", 1), ("file", 2), ("empty", 1)])
def test_what_holds_no_space_cannot_be_verified(
    cli: Cli, tmp_path: Path, name: str, code: int
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    done = cli("log", "verify", str(tmp_path / name))
    assert done.returncode == code
    assert re.fullmatch(r"engram: .+\n", done.stderr)


def test_folders_that_cannot_be_spaces_are_listed_as_that(cli: Cli, root: Path) -> None:
    (root / "lost+found").mkdir()
    done = cli("log", "verify", str(root))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "lost+found: not a space"
    last = json.loads(cli("log", "verify", str(root), "--json").stdout.splitlines()[-1])
    assert (last["is_space"], last["ok"], last["memories"]) == (False, True, None)


def test_the_commands_live_beside_a_server(
    cli: Cli, root: Path, start_server: Callable[..., Server]
) -> None:
    server = start_server(root)
    assert server.request("GET", "/api/v1/spaces/alpha/memories")[0] == 200
    assert cli("space", "create", "gamma").returncode == 0
    assert server.request("GET", "/api/v1/spaces/gamma")[0] == 200
    assert cli("space", "list", "--json").stdout.count("\n") == 3
    assert cli("log", "verify", str(root)).returncode == 0
    shown = cli("space", "show", "alpha")
    assert shown.returncode in {0, 4}
    assert str(server.process.pid) in shown.stdout + shown.stderr
