"""What the documents tell a reader to type works.

Every fenced block of `sh` and `python` in the README and in docs/ is run, in order, in one fresh
folder per document, against a real server where it speaks to one. A block that cannot run there is
preceded by `<!-- not run by tests: why -->`; the README's two `make` commands are what runs the
tests, and are checked to be targets instead.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from engram import limits
from engram.server.protocol import HEAD_BYTES_MAX

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(<!-- not run by tests: [^>]+ -->\n)?```(sh|python)\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
SERVED_AT = re.compile(r"(?:127\.0\.0\.1|localhost):(7432|7433)")


class Block(NamedTuple):
    language: str
    code: str


def runnable_blocks(text: str) -> list[Block]:
    return [Block(language, code) for skip, language, code in BLOCK.findall(text) if not skip]


def with_blocks() -> list[Path]:
    return [path for path in DOCUMENTS if runnable_blocks(path.read_text(encoding="utf-8"))]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture
def addresses(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A server on the folder that the document's commands use, and on free ports, by the ports that
    documents have it on.
    """
    command = [sys.executable, "-m", "engram.cli.app", "serve"]
    command += ["--data-root", str(tmp_path / "served"), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        ready = json.loads(server.stdout.readline())
        yield {"7432": ready["ready"].split("//")[1], "7433": ready["grpc"]}
        server.terminate()


@pytest.mark.parametrize("path", with_blocks(), ids=name_of)
def test_every_block_of_a_document_runs(
    path: Path, tmp_path: Path, addresses: dict[str, str]
) -> None:
    binaries = str(Path(sys.executable).parent)
    env = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    for block in runnable_blocks(path.read_text(encoding="utf-8")):
        code = SERVED_AT.sub(lambda at: addresses[at[1]], block.code)
        if block.language == "python":
            command = [sys.executable, "-c", code]
        else:
            lines = [line for line in code.splitlines() if not line.startswith("make ")]
            # A curl that gets an error answer is a failure here.
            script = "\n".join(["set -eu", "curl() { command curl -sS --fail-with-body $@; }"])
            script = script.replace("$@", '"$@"') + "\n" + "\n".join(lines)
            command = ["bash", "-c", script]
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"


def test_a_block_that_fails_would_be_noticed(tmp_path: Path) -> None:
    blocks = runnable_blocks("```sh\nfalse\n```\n<!-- not run by tests: x -->\n```sh\ntrue\n```\n")
    assert blocks == [Block("sh", "false\n")]


def test_the_make_commands_that_the_readme_names_are_targets() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)\b", (ROOT / "README.md").read_text()))
    assert {"run", "test"} <= named <= targets


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    links = LINK.findall(path.read_text(encoding="utf-8"))
    missing = [link for link in links if not (path.parent / link).exists()]
    assert missing == []


def test_the_table_of_limits_says_what_holds() -> None:
    text = (ROOT / "docs" / "API.md").read_text(encoding="utf-8")
    table = {name: said for said, name in re.findall(r"\| ([\w., ]+) \| `([A-Z_]+)`", text)}
    named = {**vars(limits), "HEAD_BYTES_MAX": HEAD_BYTES_MAX}
    held = {name: value for name, value in named.items() if name.isupper()}
    assert table == {name: shown(name, value) for name, value in held.items()}


def shown(name: str, value: float) -> str:
    if "_BYTES_" not in name:
        return f"{value:,}"
    value = int(value)
    return f"{value >> 20} MiB" if value >= 1 << 20 else f"{value >> 10} KiB"


def test_every_test_that_the_crash_model_names_is_there() -> None:
    text = (ROOT / "docs" / "CRASH_MODEL.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[a-z_/]+\.py)::(test_[a-z0-9_]+)`", text)
    assert len(named) > 20
    for path, test in named:
        assert re.search(rf"^def {test}\(", (ROOT / path).read_text("utf-8"), re.MULTILINE), test
