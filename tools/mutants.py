"""Plants every deliberate durability bug of the tests, one at a time, and says which test finds it.

    python tools/mutants.py [--json | --list] [MODULE …]

A mutant is a function that patches one thing the engine relies on; a test module lists its mutants
as `MUTANTS`, each with the check that has to fail, and has a test that plants each and demands the
failure. Only these tests are run here. (That every check holds without its mutant is tested beside
them, in `make test`.) Without a MODULE, a path to a test module, all that have mutants are taken.

Exit codes: 0 every mutant was caught, 1 one survived or there were none.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TextIO

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
# Run as a file, Python looks for modules beside it; the packages are one folder up.
sys.path.insert(0, str(ROOT))

Mutant = Callable[..., Any]
HAS_MUTANTS: Final = re.compile(r"^MUTANTS\b", re.MULTILINE)
REASON_CHARS_MAX: Final = 400
COLUMNS: Final = ("mutant", "breaks", "caught by", "caught", "seconds")
WIDTHS: Final = (58, 44, 62, 6)


class Table:
    """A pytest plugin: keeps the tests that plant a mutant, runs them and notes what came of it."""

    def __init__(self, tell: Callable[[dict[str, Any]], None]) -> None:
        self.rows: list[dict[str, Any]] = []
        self.planted: dict[str, tuple[Mutant, str]] = {}
        self._patched: dict[str, list[str]] = {}
        self._tell = tell
        self.refused: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        kept = []
        for item in items:
            found = planted_in(item)
            if found is not None:
                self.planted[item.nodeid] = found
                kept.append(item)
        items[:] = kept

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.refused.append(str(report.longrepr))

    @pytest.fixture
    def monkeypatch(
        self, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> pytest.MonkeyPatch:
        """Pytest's own, that also writes down what a mutant replaces."""
        patched = self._patched.setdefault(request.node.nodeid, [])
        real = monkeypatch.setattr

        def setattr_(target: Any, name: Any, *rest: Any, **options: Any) -> None:
            patched.append(name_of(target, name))
            real(target, name, *rest, **options)

        monkeypatch.setattr = setattr_  # type: ignore[method-assign]
        return monkeypatch

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.passed:
            return
        mutant, check = self.planted[report.nodeid]
        row = {
            "mutant": mutant.__name__,
            "breaks": sorted(set(self._patched.get(report.nodeid, []))),
            "check": check,
            "test": report.nodeid,
            "caught": report.passed,
            "seconds": round(report.duration, 2),
        }
        if not report.passed:
            row["reason"] = str(report.longrepr)[-REASON_CHARS_MAX:]
        self.rows.append(row)
        self._tell(row)


def planted_in(item: pytest.Item) -> tuple[Mutant, str] | None:
    """The mutant that a test plants, and the check that must fail; None for any other test."""
    registry = getattr(getattr(item, "module", None), "MUTANTS", None)
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    if registry is None:
        return None
    for mutant, check in pairs(registry):
        if any(value is mutant for value in parameters.values()):
            return mutant, check
    return None


def pairs(registry: Any) -> Iterator[tuple[Mutant, str]]:
    """Registries are lists of (mutant, check, …), or map mutants to checks."""
    rows = registry.items() if isinstance(registry, Mapping) else registry
    for mutant, check, *_ in rows:
        yield mutant, getattr(check, "__name__", None) or str(check)


def name_of(target: Any, name: Any) -> str:
    """What a patch replaces, as one would write it."""
    if isinstance(target, str):
        return target
    owner = getattr(target, "__qualname__", None) or getattr(target, "__name__", None)
    return f"{owner or type(target).__name__}.{name}"


def line(cells: Iterable[str]) -> str:
    *fixed, last = cells
    return "  ".join([*(c.ljust(w) for c, w in zip(fixed, WIDTHS, strict=True)), last.rjust(7)])


def cells_of(row: dict[str, Any]) -> list[str]:
    where = Path(row["test"].partition("::")[0]).stem
    return [
        row["mutant"],
        ", ".join(row["breaks"]),
        f"{where}: {row['check']}",
        "yes" if row["caught"] else "NO",
        f"{row['seconds']:.2f}",
    ]


def names(paths: list[str], out: TextIO) -> int:
    """What would be planted, one name a line."""
    table = Table(lambda row: None)
    call_pytest(table, *paths, "--collect-only")
    for mutant, _ in table.planted.values():
        print(mutant.__name__, file=out)
    return 0 if table.planted and not table.refused else 1


def call_pytest(table: Table, *arguments: str) -> None:
    # No terminal reporter, hence none of its options either: the table is the report.
    fixed = ["-p", "no:terminal", "-p", "no:cacheprovider", "-o", "addopts="]
    where = [f"--rootdir={ROOT}", "-c", str(ROOT / "pyproject.toml")]
    pytest.main([*arguments, *where, *fixed], plugins=[table])


def run(paths: list[str], as_json: bool, out: TextIO) -> int:
    def tell(row: dict[str, Any]) -> None:
        if not as_json:
            print(line(cells_of(row)), file=out, flush=True)

    table = Table(tell)
    if not as_json:
        print(line(COLUMNS), file=out, flush=True)
    call_pytest(table, *paths)
    survivors = [row for row in table.rows if not row["caught"]]
    if as_json:
        document = {
            "mutants": table.rows,
            "planted": len(table.rows),
            "survived": len(survivors),
            "errors": table.refused,
        }
        print(json.dumps(document, indent=1), file=out)
    else:
        for row in survivors:
            print(f"\n{row['mutant']} survived:\n{row['reason']}", file=out)
        for reason in table.refused:
            print(f"\n{reason}", file=out)
        seconds = sum(row["seconds"] for row in table.rows)
        caught = len(table.rows) - len(survivors)
        print(f"{caught} of {len(table.rows)} caught, {seconds:.0f} s", file=out)
    return 1 if survivors or table.refused or not table.rows else 0


def modules() -> list[str]:
    """The test modules that list mutants."""
    found = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path) for path in found if HAS_MUTANTS.search(path.read_text(encoding="utf-8"))]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one document instead of the table")
    parser.add_argument("--list", action="store_true", help="only name the mutants")
    parser.add_argument("paths", nargs="*", metavar="MODULE", help="a test module")
    chosen = parser.parse_args(arguments)
    # Whatever a test prints is pytest's; the table goes to the stdout that was there before.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        paths = chosen.paths or modules()
        return names(paths, out) if chosen.list else run(paths, chosen.json, out)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
