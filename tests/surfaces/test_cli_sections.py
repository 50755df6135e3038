"""Sections of the configuration: how spaces are to be made, and what is wrong with a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import engram

from .command_line import CommandLine
from .harness import Server

FILE = """\
data_root = "data"
default_space = "main"

[spaces.main]
retention = "age:30d"
quotas = "memories:5"

[spaces.vectors]
dimensions = 3
forgetting = "capacity:9"
"""


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> CommandLine:
    (tmp_path / "engram.toml").write_text(FILE)
    return CommandLine(capfd, monkeypatch, tmp_path)


def test_a_space_is_made_as_its_section_says(run: CommandLine, tmp_path: Path) -> None:
    for name in ("main", "vectors", "other"):
        assert run("space", "create", name).code == 0
    with engram.open(tmp_path / "data") as db:
        main, vectors, other = (db.space(name).info() for name in ("main", "vectors", "other"))
    assert (str(main.retention), str(main.quotas)) == ("age:30d", "memories:5")
    assert vectors.embedding == engram.EmbeddingSpec(model="caller", dimensions=3)
    assert (str(vectors.retention), str(vectors.forgetting)) == ("all", "capacity:9")
    assert (str(other.retention), str(other.quotas)) == ("all", "none")


def test_a_flag_beats_the_section(run: CommandLine) -> None:
    done = run("space", "create", "vectors", "--dimensions", "4", "--quota", "memories:1", "--json")
    (document,) = done.documents
    assert document["embedding"] == {"model": "caller", "dimensions": 4}
    assert (document["quotas"]["memories"], document["forgetting"]["capacity"]) == (1, 9)


def test_the_same_command_again_and_again_fits_automation(run: CommandLine) -> None:
    ensure = ("space", "create", "main", "--if-not-exists")
    assert [run(*ensure).out for _ in range(2)] == ["created main\n", "main exists already\n"]
    assert run("space", "configure", "main", "--retention", "all").code == 0
    conflict = run(*ensure)
    assert (conflict.code, "retention all" in conflict.err) == (4, True)
    assert run("space", "configure", "main", "--retention", "age:720h").code == 0
    assert run(*ensure).code == 0
    assert run(*ensure, "--quota", "memories:6").code == 4


def test_they_are_shown_with_where_they_come_from(run: CommandLine, tmp_path: Path) -> None:
    (document,) = run("config", "show", "--json").documents
    shown = {key: item for key, item in document["settings"].items() if key.startswith("spaces.")}
    file = str(tmp_path / "engram.toml")
    assert {key: item["value"] for key, item in shown.items()} == {
        "spaces.main.retention": "age:30d",
        "spaces.main.quotas": "memories:5",
        "spaces.vectors.dimensions": 3,
        "spaces.vectors.forgetting": "capacity:9",
    }
    assert {item["origin"] for item in shown.values()} == {file}
    assert "spaces.main.quotas" in run("config", "show").out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('port = 1\ncolour = "red"', [":2: unknown key 'colour'", "default_space", "[spaces.ID]"]),
        ("port = 1\n[colour]\nred = 1", [":2: unknown key 'colour'"]),
        ("[spaces.a]\nretention='all'\nport = 1", [":3: unknown key 'port'", "spaces.a", "quotas"]),
        ('[spaces.a]\nquotas = "x"', [":2: spaces.a.quotas", "says no quotas"]),
        ("[spaces.a]\nquotas = 5", [":2: spaces.a.quotas", "must be a string"]),
        ("[spaces.a]\ndimensions = 0", [":2: spaces.a.dimensions", "from 1 to"]),
        ("[spaces.a]\ndimensions = true", [":2: spaces.a.dimensions", "from 1 to"]),
        ('[spaces."No Space"]\n', ["spaces.No Space", "a-z"]),
        ("spaces = 5", ["must be sections"]),
        ("[spaces]\na = 5", ["spaces.a must be a section"]),
    ],
)
def test_what_cannot_be_meant_is_named_by_its_line(
    run: CommandLine, tmp_path: Path, text: str, words: list[str]
) -> None:
    file = tmp_path / "engram.toml"
    file.write_text(text)
    for command in (["config", "show"], ["space", "create", "a"], ["serve"]):
        done = run(*command)
        assert (done.code, done.out) == (2, "")
        assert str(file) in done.err
        assert [word for word in words if word not in done.err] == []


def test_a_server_makes_its_default_space_by_its_section(
    run: CommandLine, start_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = start_server(tmp_path / "data", "--config", str(tmp_path / "engram.toml"))
    code, document = server.request("GET", "/api/v1/spaces/main")
    assert (code, document["quotas"]["memories"]) == (200, 5)
    assert document["retention"] == {"positions": None, "age_s": 30 * 86_400}
    server.request("PATCH", "/api/v1/spaces/main", {"retention": "all"})
    assert server.stop()[0] == 0
    again = start_server(tmp_path / "data", "--config", str(tmp_path / "engram.toml"))
    assert again.request("GET", "/api/v1/spaces/main")[1]["retention"]["age_s"] is None
    status, errors = again.stop()
    assert (status, "retention all" in errors) == (0, True)
