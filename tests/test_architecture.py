"""The house rules that a machine can check, each with a proof that it can fail.

A rule is a function from a module (its name, source and syntax tree) to complaints. It is run over
every module of the repository, and over a snippet that breaks it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("engram", "wal", "compaction")
UNINSTALLED = ("tests", "fuzz", "tools")
MODULE_LINES_MAX = 520  # about 500, so that nobody saves a line where it hurts
TEST_MODULE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "manager", "base", "common", "misc"}

# From the outside in; a module may import from its own layer and from those behind it.
LAYERS = (
    ("engram.server", "engram.rpc", "engram.v1", "engram.cli", "engram.client", "engram.drill"),
    ("engram",),
    ("compaction",),
    ("wal",),
)

FACE = "engram"
"""The package itself is the public face of all its layers: it names them, and loads none."""

CLOCKS_AND_CHANCE = {"time", "datetime", "random", "secrets", "uuid"}
NETWORK = {"asyncio", "http", "urllib", "socket", "selectors", "ssl", "starlette", "uvicorn"}
SYSTEM = {"os", "fcntl", "mmap", "pathlib", "shutil", "tempfile", "subprocess", "io", "signal"}
WAL_SYSTEM_MODULE = "wal.os_vfs"
# The simulated disk draws its crashes from a seed that is handed in.
WAL_SIMULATION = ("wal.sim_vfs", "wal.sim_medium")
PURE = (
    "engram.access.keys",
    "engram.access.principal",
    "engram.memory",
    "engram.cognition",
    "engram.spaces.ids",
    "engram.errors",
    "engram.limits",
    "wal.format",
    "wal.codec",
    "wal.framed",
    "wal.manifest",
    "wal.recovery",
)
READS_A_CLOCK = {"now", "utcnow", "today", "time", "time_ns", "monotonic", "perf_counter"}

TOP_LEVEL = {
    *("engram", "wal", "compaction", "tests", "fuzz", "tools", "docs"),
    *("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile"),
    *("requirements.lock", "requirements-dev.lock", ".gitignore", ".ci", ".git"),
}
# msgspec's hooks say by NotImplementedError, with a message, that a type is none of theirs.
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError(?!\(f?\"))\b")
MACHINE_PATH = re.compile(r"(?<![\w.])/(home|Users|work|root)/")
GENERATED = "*_pb2*.py"
"""What protoc writes, by its own rules; a test has it written anew."""
THIS = "tests.test_architecture"
"""Its examples break the rules on text."""


class Module(NamedTuple):
    name: str
    source: str
    tree: ast.Module

    def within(self, *packages: str) -> bool:
        return any(self.name == p or self.name.startswith(f"{p}.") for p in packages)


Rule = Callable[[Module], Iterator[str]]


def parse(name: str, source: str) -> Module:
    return Module(name, source, ast.parse(source))


def read_modules() -> list[Module]:
    modules = []
    for package in (*PACKAGES, *UNINSTALLED):
        for path in sorted((ROOT / package).rglob("*.py")):
            if fnmatch(path.name, GENERATED):
                continue
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            modules.append(parse(name, path.read_text(encoding="utf-8")))
    return modules


MODULES = read_modules()


def imports(module: Module) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of whatever is imported, wherever it stands; `from a import b` is a.b."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                parents = module.name.split(".")[: -node.level]
                source = ".".join([*parents, source]).strip(".")
            for alias in node.names:
                yield node.lineno, f"{source}.{alias.name}"
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module":
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield node.lineno, argument.value


def layer_of(name: str) -> int | None:
    for number, packages in enumerate(LAYERS):
        if any(name == package or name.startswith(f"{package}.") for package in packages):
            return number
    return None


def imports_run_one_way(module: Module) -> Iterator[str]:
    own = layer_of(module.name)
    for line, imported in imports(module):
        layer = layer_of(imported)
        if own is not None and layer is not None and layer < own and module.name != FACE:
            yield f"{module.name}:{line} imports {imported}, which stands before it"
        if own is not None and imported.split(".")[0] in UNINSTALLED:
            yield f"{module.name}:{line} imports {imported}, which is not installed"


def wal_knows_no_clock_network_or_system(module: Module) -> Iterator[str]:
    if not module.within("wal"):
        return
    forbidden = CLOCKS_AND_CHANCE | NETWORK | SYSTEM
    if module.name == WAL_SYSTEM_MODULE:
        forbidden = (CLOCKS_AND_CHANCE | NETWORK) - {"time"}  # a lock is waited for by polling
    if module.within(*WAL_SIMULATION):
        forbidden -= {"random"}
    for line, imported in imports(module):
        if imported.split(".")[0] in forbidden:
            yield f"{module.name}:{line} imports {imported}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "open":
            yield f"{module.name}:{node.lineno} opens a file by itself"


def the_core_is_pure(module: Module) -> Iterator[str]:
    if not module.within(*PURE):
        return
    for line, imported in imports(module):
        top = imported.split(".")[0]
        if top in (CLOCKS_AND_CHANCE - {"datetime"}) | NETWORK | SYSTEM:
            yield f"{module.name}:{line} imports {imported}"
        pure = imported.startswith(tuple(f"{name}." for name in PURE))
        if imported.startswith(("engram.spaces.", "engram.embedding.")) and not pure:
            yield f"{module.name}:{line} imports {imported}, which has effects"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in READS_A_CLOCK:
            yield f"{module.name}:{node.lineno} reads a clock"


def modules_are_short(module: Module) -> Iterator[str]:
    lines = module.source.count("\n")
    most = TEST_MODULE_LINES_MAX if module.within("tests") else MODULE_LINES_MAX
    if lines > most:
        yield f"{module.name} has {lines} lines; at most {most} are allowed"


def functions_are_short(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{module.name}:{node.lineno} {node.name} has {lines} lines"


def modules_say_what_they_are(module: Module) -> Iterator[str]:
    if not module.within("tests") and not (ast.get_docstring(module.tree) or "").strip():
        yield f"{module.name} has no docstring"


def names_say_something(module: Module) -> Iterator[str]:
    for part in module.name.split("."):
        if part in VAGUE_NAMES:
            yield f"{module.name}: {part!r} says nothing"


def nothing_is_unfinished(module: Module) -> Iterator[str]:
    if module.name == THIS:
        return
    for number, line in enumerate(module.source.splitlines(), 1):
        if UNFINISHED.search(line):
            yield f"{module.name}:{number} {line.strip()}"


def no_path_of_somebodys_machine(module: Module) -> Iterator[str]:
    if module.name == THIS:
        return
    for number, line in enumerate(module.source.splitlines(), 1):
        if MACHINE_PATH.search(line):
            yield f"{module.name}:{number} {line.strip()}"


def only_our_own_errors_are_raised_on_purpose(module: Module) -> Iterator[str]:
    """`assert` is for tests: it vanishes under -O."""
    if not module.within(*PACKAGES):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Assert):
            yield f"{module.name}:{node.lineno} asserts"


RULES: list[Rule] = [
    imports_run_one_way,
    wal_knows_no_clock_network_or_system,
    the_core_is_pure,
    modules_are_short,
    functions_are_short,
    modules_say_what_they_are,
    names_say_something,
    nothing_is_unfinished,
    no_path_of_somebodys_machine,
    only_our_own_errors_are_raised_on_purpose,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_rule_holds_everywhere(rule: Rule) -> None:
    assert [complaint for module in MODULES for complaint in rule(module)] == []


LONG_FUNCTION = "def f():\n" + "    pass\n" * FUNCTION_LINES_MAX
BROKEN: list[tuple[Rule, str, str]] = [
    (imports_run_one_way, "wal.log", "import engram"),
    (imports_run_one_way, "wal.log", "import compaction.plan"),
    (imports_run_one_way, "wal.log", "from engram.memory import model"),
    (imports_run_one_way, "compaction.plan", "from engram import errors"),
    (imports_run_one_way, "engram.spaces.space", "from engram.server import rest"),
    (imports_run_one_way, "engram.spaces.space", "from engram import cli"),
    (imports_run_one_way, "engram.spaces.space", "from ..server import app"),
    (imports_run_one_way, "engram.spaces.space", "import_module('engram.client')"),
    (imports_run_one_way, "engram.errors", "def late():\n    import engram.server.app"),
    (imports_run_one_way, "engram.server.app", "from tests.crash import drill"),
    *(
        (wal_knows_no_clock_network_or_system, "wal.log", f"import {name}")
        for name in ("os", "fcntl", "mmap", "time", "datetime", "random", "secrets", "asyncio")
    ),
    (wal_knows_no_clock_network_or_system, "wal.log", "from os import path"),
    (wal_knows_no_clock_network_or_system, "wal.log", "import http.client"),
    (wal_knows_no_clock_network_or_system, "wal.log", "open('x')"),
    (wal_knows_no_clock_network_or_system, "wal.os_vfs", "import random"),
    *(
        (the_core_is_pure, "engram.memory.decide", f"import {name}")
        for name in ("time", "os", "random", "secrets", "asyncio", "pathlib")
    ),
    (the_core_is_pure, "engram.memory.times", "from datetime import datetime\ndatetime.now()"),
    (the_core_is_pure, "engram.cognition.recall", "from engram.spaces.store import Store"),
    (the_core_is_pure, "wal.codec", "import os"),
    (modules_are_short, "engram.x", "\n" * (MODULE_LINES_MAX + 1)),
    (modules_are_short, "tests.x", "\n" * (TEST_MODULE_LINES_MAX + 1)),
    (functions_are_short, "engram.x", LONG_FUNCTION),
    (functions_are_short, "engram.x", f"async {LONG_FUNCTION}"),
    (modules_say_what_they_are, "engram.x", "x = 1"),
    (modules_say_what_they_are, "engram.x", '""" """'),
    (names_say_something, "engram.utils", ""),
    (names_say_something, "engram.helpers.text", ""),
    (nothing_is_unfinished, "engram.x", "# TODO: later"),
    (nothing_is_unfinished, "engram.x", "raise NotImplementedError"),
    (nothing_is_unfinished, "engram.x", "raise NotImplementedError()"),
    (no_path_of_somebodys_machine, "engram.x", "path = '/home/me/data'"),
    (only_our_own_errors_are_raised_on_purpose, "wal.x", "assert True"),
]


@pytest.mark.parametrize(
    ("rule", "name", "source"), BROKEN, ids=[f"{r.__name__}-{n}" for r, n, _ in BROKEN]
)
def test_a_rule_can_fail(rule: Rule, name: str, source: str) -> None:
    assert list(rule(parse(name, source)))


FINE: list[tuple[Rule, str, str]] = [
    (imports_run_one_way, "engram.server.app", "from engram.spaces import space"),
    (imports_run_one_way, "engram.spaces.space", "import wal.log\nfrom engram import errors"),
    (imports_run_one_way, "engram.serverless", "import engram"),
    (imports_run_one_way, "engram", "from engram.client.synchronous import Client"),
    (imports_run_one_way, "engram.spaces.space", "from ..memory import model"),
    (wal_knows_no_clock_network_or_system, "wal.os_vfs", "import os, fcntl, mmap, time"),
    (wal_knows_no_clock_network_or_system, "wal.log", "directory.open('x')"),
    (the_core_is_pure, "engram.memory.times", "from datetime import datetime"),
    (functions_are_short, "engram.x", LONG_FUNCTION.removesuffix("    pass\n")),
    (modules_are_short, "engram.x", "\n" * MODULE_LINES_MAX),
]


@pytest.mark.parametrize(("rule", "name", "source"), FINE)
def test_a_rule_complains_of_nothing_else(rule: Rule, name: str, source: str) -> None:
    assert list(rule(parse(name, source))) == []


def strangers(names: set[str], ignored: set[str]) -> set[str]:
    return {
        name for name in names - TOP_LEVEL if not any(fnmatch(name, pattern) for pattern in ignored)
    }


def ignored_names() -> set[str]:
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    return {line.strip().strip("/") for line in lines if line.strip()}


def test_the_top_level_is_what_was_agreed() -> None:
    there = {path.name for path in ROOT.iterdir()}
    assert strangers(there, ignored_names()) == set()
    assert strangers({"scripts", "engram"}, ignored_names()) == {"scripts"}


def test_every_module_was_looked_at() -> None:
    names = {module.name for module in MODULES}
    assert {"engram", "engram.spaces.registry", "wal.log", "tests.test_architecture"} <= names
    assert len(names) == len(MODULES) > 80
