"""Which settings a command line works by, what it says of them, and what the Tab key offers."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import engram
from engram.cli import completion

from .command_line import ENGRAM, CommandLine
from .harness import Server

KEYS = [
    *("data_root", "server", "default_space", "host", "port"),
    *("grpc_port", "delete_grace_s", "open_spaces_max", "open_bytes_max", "past_bytes_max"),
    *("scrub_bytes_per_s", "quotas", "server_default_space", "require_explicit_space", "api_key"),
]


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> CommandLine:
    return CommandLine(capfd, monkeypatch, tmp_path)


def shown(run: CommandLine, *arguments: str) -> dict[str, tuple[object, str]]:
    done = run("config", "show", "--json", *arguments)
    assert (done.code, done.err) == (0, "")
    settings = done.documents[0]["settings"]
    assert list(settings) == KEYS
    return {name: (item["value"], item["origin"]) for name, item in settings.items()}


def test_every_setting_says_where_it_comes_from(run: CommandLine, tmp_path: Path) -> None:
    found = shown(run)
    assert found["data_root"] == (str(tmp_path / ".local/share/engram"), "default")
    assert found["api_key"] == ("not set", "default")
    file = tmp_path / "engram.toml"
    file.write_text('data_root = "m"\nport = 7000\ndefault_space = "alpha"\n')
    run.set(ENGRAM_PORT="7001", ENGRAM_API_KEY="engram_secret")
    found = shown(run, "--space", "beta")
    assert found["data_root"] == (str(tmp_path / "m"), str(file))
    assert found["port"] == (7001, "environment variable ENGRAM_PORT")
    assert found["default_space"] == ("beta", "flag --space")
    assert found["api_key"] == ("set", "environment variable ENGRAM_API_KEY")
    table = run("config", "show")
    assert table.out.splitlines()[0].split() == ["KEY", "VALUE", "FROM"]
    assert [line.split()[0] for line in table.out.splitlines()[1:]] == KEYS
    assert str(file) in table.err
    assert "secret" not in table.out + table.err


def test_how_long_what_is_deleted_can_be_restored_is_a_setting(
    run: CommandLine, tmp_path: Path
) -> None:
    run.set(ENGRAM_DATA_ROOT=str(tmp_path / "data"), ENGRAM_DELETE_GRACE_S="0")
    assert run("space", "create", "alpha").code == 0
    assert run("space", "delete", "alpha", "--yes").code == 0
    assert run("space", "restore", "alpha").code == 3, "its time was up at once"


def test_a_server_keeps_as_many_spaces_open_as_it_may(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = start_server(tmp_path / "data", "--open-spaces-max", "1")
    with engram.Client(server.url) as client:
        spaces = [client.create_space(name) for name in ("alpha", "beta")]
        for space in spaces:
            space.remember("x")
        infos = {info.memory_space_id: info.state for info in client.spaces()}
        assert infos == {"alpha": None, "beta": "active"}
        assert spaces[0].list().memories[0].content == "x"


def test_a_password_in_a_url_is_not_shown(run: CommandLine) -> None:
    assert shown(run, "--server", "http://me:secret@host:1")["server"][0] == "http://***@host:1"
    done = run("status", "--server", "http://me:secret@host:1")
    assert (done.code, "secret" in done.err) == (2, False)


def test_the_file_is_the_named_one_or_the_nearest(run: CommandLine, tmp_path: Path) -> None:
    own = tmp_path / ".config/engram/engram.toml"
    own.parent.mkdir(parents=True)
    own.write_text('default_space = "own"')
    assert shown(run)["default_space"] == ("own", str(own))
    xdg = tmp_path / "xdg/engram/engram.toml"
    xdg.parent.mkdir(parents=True)
    xdg.write_text('default_space = "xdg"')
    run.set(XDG_CONFIG_HOME=str(tmp_path / "xdg"))
    assert shown(run)["default_space"] == ("xdg", str(xdg))
    here = tmp_path / "engram.toml"
    here.write_text('default_space = "here"')
    assert shown(run)["default_space"] == ("here", str(here))
    for name in ("variable", "flag"):
        (tmp_path / f"{name}.toml").write_text(f'default_space = "{name}"')
    run.set(ENGRAM_CONFIG="variable.toml")
    assert shown(run)["default_space"] == ("variable", str(tmp_path / "variable.toml"))
    flagged = shown(run, "--config", "flag.toml")
    assert flagged["default_space"] == ("flag", str(tmp_path / "flag.toml"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"port = ", ["is not TOML"]),
        (b'server = "\xff"', ["is not UTF-8 at byte 10"]),
        (b"colour = 1", ["unknown key 'colour'", "default_space"]),
        (b'port = "x"', ["port must be a whole number, not a string"]),
        (b"data_root = [1]", ["data_root must be a string, not a list"]),
        (b"port = 99999", ["port must be a port"]),
        (b"open_spaces_max = 0", ["open_spaces_max must be a whole number from 1 to"]),
        (b"delete_grace_s = -1", ["delete_grace_s must be a whole number from 0 to"]),
    ],
)
def test_a_broken_file_is_named_with_its_key(
    run: CommandLine, tmp_path: Path, content: bytes, words: list[str]
) -> None:
    file = tmp_path / "broken.toml"
    file.write_bytes(content)
    for command in (["config", "show"], ["list"], ["serve"]):
        done = run(*command, "--config", str(file))
        assert (done.code, done.out) == (2, "")
        assert str(file) in done.err
        assert [word for word in words if word not in done.err] == []


def test_a_file_that_cannot_be_read_is_named(run: CommandLine, tmp_path: Path) -> None:
    for name, word in (("nowhere.toml", "No such file"), (".", "directory")):
        done = run("config", "show", "--config", name)
        assert (done.code, word in done.err) == (2, True)
    (tmp_path / "engram.toml").mkdir()
    assert run("list").code == 2


def test_commands_work_by_the_file(run: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "engram.toml").write_text('data_root = "m"\ndefault_space = "alpha"')
    assert run("space", "create", "alpha").code == 0
    assert run("remember", "by the file", "--id", "x").code == 0
    assert (tmp_path / "m" / "alpha").is_dir()
    run.set(ENGRAM_SPACE="beta")
    assert run("get", "x").code == 3
    assert run("get", "x", "--space", "alpha").code == 0


def test_the_server_takes_its_settings_too(
    run: CommandLine, tmp_path: Path, start_server: Callable[..., Server]
) -> None:
    (tmp_path / "engram.toml").write_text('host = "127.0.0.2"\nport = 1')
    server = start_server(tmp_path / "data", "--config", str(tmp_path / "engram.toml"))
    assert server.url.startswith("http://127.0.0.2:")  # the port is that of the flag
    run.set(ENGRAM_SERVER=server.url)
    assert run("space", "create", "alpha").code == 0
    assert (tmp_path / "data" / "alpha").is_dir()
    # A data root that is named closer wins over the server.
    assert run("space", "show", "alpha", "--data-root", str(tmp_path / "other")).code == 1


def test_a_server_and_a_data_root_exclude_each_other(run: CommandLine) -> None:
    for command in (["list"], ["status"], ["space", "list"], ["config", "show"]):
        done = run(*command, "--server", "http://127.0.0.1:1", "--data-root", "x")
        assert (done.code, "--server and --data-root" in done.err) == (2, True)
        done = run(*command, "--server", "http://127.0.0.1:1", "--data-root", "x", "--json")
        assert json.loads(done.err)["type"].endswith("/malformed")


@pytest.mark.parametrize(
    ("url", "code", "word"),
    [
        ("http://127.0.0.1:1", 1, "no server can be reached"),
        ("http://nowhere.invalid:7432", 1, "no server can be reached"),
        ("127.0.0.1:7432", 2, "not the URL of a server"),
        ("ftp://127.0.0.1", 2, "not the URL of a server"),
        ("nonsense", 2, "not the URL of a server"),
        ("", 2, "--server is empty"),
    ],
)
def test_a_server_that_is_not_there_is_said(
    run: CommandLine, url: str, code: int, word: str
) -> None:
    for command in (["list", "--space", "alpha"], ["status"], ["space", "list"]):
        done = run(*command, "--server", url)
        assert (done.code, done.out) == (code, "")
        assert word in done.err


@pytest.mark.parametrize("trusted", [True, False])
def test_a_key_is_not_sent_to_a_server_that_a_folder_named(
    run: CommandLine, tmp_path: Path, trusted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str | None] = []

    class Client(engram.Client):
        def __init__(self, url: str, api_key: str | None = None) -> None:
            given.append(api_key)
            super().__init__(url, api_key)

    monkeypatch.setattr(engram, "Client", Client)
    folder = tmp_path / ".config/engram" if trusted else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "engram.toml").write_text('server = "http://127.0.0.1:1"')
    run.set(ENGRAM_API_KEY="engram_secret")
    done = run("status")
    assert given == ["engram_secret" if trusted else None]
    assert ("ENGRAM_API_KEY is not sent" in done.err) != trusted
    assert "engram_secret" not in done.err


def test_a_data_root_that_is_not_there_is_said(run: CommandLine, tmp_path: Path) -> None:
    for command in (["list", "--space", "a"], ["status"], ["remember", "x", "--space", "a"]):
        done = run(*command, "--data-root", "nowhere")
        assert (done.code, done.out) == (1, "")
        assert "engram space create" in done.err
    assert not (tmp_path / "nowhere").exists()


def completed(root: Path, line: str, **environment: str) -> list[str]:
    """What bash would offer behind `line`."""
    words = line.split(" ")
    done = subprocess.run(
        ENGRAM,
        capture_output=True,
        text=True,
        check=False,
        env={
            **{name: text for name, text in os.environ.items() if not name.startswith("ENGRAM_")},
            "ENGRAM_DATA_ROOT": str(root),
            "_ENGRAM_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
            **environment,
        },
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_the_tab_key_offers_commands_options_and_spaces(tmp_path: Path) -> None:
    root = tmp_path / "data"
    with engram.open(root) as db:
        for name in ("alpha", "alder", "beta"):
            db.create_space(name)
    (root / "stray").mkdir()
    assert completed(root, "engram re") == ["remember", "recall", "revise", "restore"]
    assert completed(root, "engram recall x --space al") == ["alder", "alpha"]
    assert completed(root, "engram space show ") == ["alder", "alpha", "beta"]
    assert completed(root, "engram recall x --mode l") == ["lexical"]
    other = tmp_path / "other"
    with engram.open(other) as db:
        db.create_space("elsewhere")
    assert completed(root, f"engram list --data-root {other} --space ") == ["elsewhere"]


def test_the_tab_key_fails_at_nothing_and_makes_nothing(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert completed(nowhere, "engram list --space ") == []
    assert not nowhere.exists()
    broken = tmp_path / "broken.toml"
    broken.write_text("port =")
    assert completed(tmp_path, "engram list --space ", ENGRAM_CONFIG=str(broken)) == []
    served = {"ENGRAM_SERVER": "http://10.255.255.1:1", "ENGRAM_DATA_ROOT": ""}
    started = time.monotonic()
    assert completed(tmp_path, "engram list --space ", **served) == []
    assert time.monotonic() - started < 5


def test_completion_looks_at_no_more_than_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        (tmp_path / f"s{number}").mkdir()
        (tmp_path / f"s{number}" / "space.json").touch()
    monkeypatch.setattr(completion, "SPACES_MAX", 3)
    assert len(completion._spaces({"data_root": str(tmp_path)}, "")) == 3


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(shell: str) -> None:
    done = subprocess.run(
        [*ENGRAM, "--show-completion", shell],
        capture_output=True,
        text=True,
        check=False,
        # As a test runner is no shell that could be made out, the shell is named.
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "_ENGRAM_COMPLETE" in done.stdout


class Elsewhere(BaseHTTPRequestHandler):
    """A server that is not Engram's."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<h1>welcome</h1>")

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_server_that_is_another_s_is_said(run: CommandLine) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            for command in (["status"], ["list", "--space", "a"], ["watch", "--space", "a"]):
                done = run(*command, "--server", f"http://127.0.0.1:{server.server_port}")
                assert (done.code, done.out) == (1, "")
                assert "Check that the URL leads to an Engram server" in done.err
        finally:
            server.shutdown()
            thread.join()
