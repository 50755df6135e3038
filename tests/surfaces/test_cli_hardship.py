"""Commands where the system says no: locked folders, endless paths, pipes for files, no stderr."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import engram

from .command_line import ENGRAM, WAIT_S_MAX, CommandLine, Done

AS_ROOT = os.geteuid() == 0
UNPRIVILEGED = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", "--"] if AS_ROOT else []
needs_permissions = pytest.mark.skipif(
    AS_ROOT and shutil.which("setpriv") is None, reason="root may do everything"
)
LONG = "x" * 5_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with engram.open(tmp_path / "data") as db:
        for name in ("alpha", "beta"):
            db.create_space(name).remember("The deploy key is rotated", id="one")
    return tmp_path / "data"


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: Path
) -> CommandLine:
    return CommandLine(capfd, monkeypatch, tmp_path).set(
        ENGRAM_DATA_ROOT=str(root), ENGRAM_SPACE="alpha"
    )


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


def unprivileged(*arguments: str) -> Done:
    """A command of a user whom permissions bind, in the environment as it is."""
    done = subprocess.run(
        [*UNPRIVILEGED, *ENGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=WAIT_S_MAX,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@needs_permissions
def test_a_space_that_cannot_be_read_leaves_the_others_their_status(
    run: CommandLine, root: Path
) -> None:
    log = root / "alpha" / "log"
    log.chmod(0)
    try:
        done = unprivileged("status")
        documents = unprivileged("status", "--json").documents
        refused = unprivileged("get", "one")
    finally:
        log.chmod(0o700)
    assert (done.code, done.err) == (1, "")
    _, _, alpha, beta, why = done.out.splitlines()
    assert alpha.split() == ["alpha", "unusable", "-", "-", "-"]
    assert beta.split()[:4] == ["beta", "active", "1", "2"]
    assert why.endswith("alpha cannot be read: Permission denied")
    assert [space["state"] for space in documents[0]["spaces"]] == ["unusable", "active"]
    assert "cannot be written" not in refused.err


@needs_permissions
@pytest.mark.parametrize("name", ["list", "status", "recall x", "space list", "space create new"])
def test_a_data_root_below_a_locked_folder_is_refused(
    run: CommandLine, locked: Path, name: str
) -> None:
    flag = unprivileged(*name.split(), "--data-root", str(locked / "sub"))
    run.set(XDG_DATA_HOME=str(locked / "sub"), ENGRAM_DATA_ROOT="")
    default = unprivileged(*name.split())
    for done in (flag, default):
        assert (done.code, done.out) == (1, "")
        assert "Permission denied" in done.err
        assert len(done.err.splitlines()) == 1


@needs_permissions
def test_a_data_root_that_cannot_be_read_is_not_said_to_be_unwritable(
    run: CommandLine, root: Path
) -> None:
    root.chmod(0)
    try:
        done = unprivileged("status")
    finally:
        root.chmod(0o700)
    assert (done.code, done.out) == (1, "")
    assert "Permission denied" in done.err
    assert "cannot be written" not in done.err


@needs_permissions
def test_a_configuration_that_may_not_be_looked_for_is_none(run: CommandLine, locked: Path) -> None:
    run.set(XDG_CONFIG_HOME=str(locked / "sub"))
    done = unprivileged("get", "one")
    assert (done.code, done.err) == (0, "")
    named = unprivileged("get", "one", "--config", str(locked / "engram.toml"))
    assert (named.code, "Permission denied" in named.err) == (2, True)


@pytest.mark.parametrize(
    "line",
    [
        *("status --data-root", "space create new --data-root", "serve --port 0 --data-root"),
        *("status --config", "remember --file", "log verify"),
    ],
)
def test_a_path_longer_than_any_is_refused(run: CommandLine, line: str) -> None:
    done = run(*line.split(), LONG)
    assert done.code in {1, 2}
    assert "File name too long" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_pipe_is_no_configuration_file(run: CommandLine, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "engram.toml")
    for done in (run("status"), run("status", "--config", "engram.toml")):
        assert (done.code, done.out) == (2, "")
        assert "engram.toml cannot be read: it is no regular file" in done.err


@pytest.mark.parametrize("name", ["status", "space create new", "serve --port 0"])
def test_a_data_root_below_a_deleted_folder_is_refused(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    done = run(*name.split(), "--data-root", "data")
    monkeypatch.chdir(tmp_path)
    assert (done.code, done.out) == (1, "")
    assert "data is below the current folder, which was deleted" in done.err


CODES = [
    ("get nope", 3),
    ("get nope --json", 3),
    ("nope", 2),
    ("list --mode", 2),
    ("list --tag none", 0),
    ("recall nothing --tag none", 0),
]


@pytest.mark.parametrize("sink", ["closed", "full"])
@pytest.mark.parametrize(("line", "code"), CODES)
def test_a_stderr_that_takes_nothing_changes_no_exit_code(
    run: CommandLine, line: str, code: int, sink: str
) -> None:
    if sink == "full":
        nowhere = os.open("/dev/full", os.O_WRONLY)
    else:
        read, nowhere = os.pipe()
        os.close(read)
    with os.fdopen(nowhere, "wb") as stderr:
        done = subprocess.run(
            [*ENGRAM, *line.split()],
            stdout=subprocess.PIPE,
            stderr=stderr,
            timeout=WAIT_S_MAX,
            check=False,
        )
    assert (done.returncode, done.stdout) == (code, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["status", "--help"], ["--version"]])
def test_a_help_that_cannot_be_written_is_said(run: CommandLine, arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*ENGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "engram: the output cannot be written: No space left on device\n"


def test_json_counts_before_two_dashes_only(run: CommandLine) -> None:
    assert run("get", "--", "--json").err.startswith("engram: ")
    assert json.loads(run("get", "--json", "--", "--space").err)["status"] == 404


@pytest.mark.parametrize(
    ("line", "choices"),
    [
        ("recall x --mode nope", "'similarity', 'lexical', 'hybrid'"),
        ("watch --type nope", "'space.created', "),
        ("revise one --clear nope", "'tags', "),
        ("list --kind nope", "'episode', "),
    ],
)
def test_an_invalid_choice_is_answered_with_those_there_are(
    run: CommandLine, line: str, choices: str
) -> None:
    done = run(*line.split())
    assert done.code == 2
    assert f": 'nope' is not one of {choices}" in done.err


def test_an_empty_file_name_is_called_empty(run: CommandLine) -> None:
    for line, flag in ((["list", "--config"], "--config"), (["remember", "--file"], "--file")):
        done = run(*line, "")
        assert (done.code, done.out) == (2, "")
        assert f"{flag} is empty" in done.err


def test_what_has_expired_already_is_said_so(run: CommandLine) -> None:
    late = run("remember", "x", "--id", "late", "--expires", "2020-01-01")
    assert (late.code, late.out) == (0, "remembered late at position 3\n")
    assert "it has expired already" in late.err
    assert run("remember", "x", "--expires", "9000-01-01").err == ""
