"""The account of a drill: a document for programs, and a text that can be filed."""

from __future__ import annotations

import os
import platform
import shlex
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from engram.drill.effects import Violation

VIOLATIONS_SHOWN_MAX: Final = 50


class Options(NamedTuple):
    """What a drill was asked for. `seconds` bounds the time in which new kills are begun."""

    seed: int
    iterations: int
    spaces: int
    clients: int
    seconds: float | None = None

    def command(self, *, seed: int | None = None, iterations: int | None = None) -> str:
        """The command line that makes the same choices, of other rounds if a seed is given."""
        words = ["engram", "drill", "crash"]
        given = self._replace(
            seed=self.seed if seed is None else seed,
            iterations=self.iterations if iterations is None else iterations,
        )
        for name in ("seed", "iterations", "spaces", "clients"):
            words += [f"--{name}", str(getattr(given, name))]
        return shlex.join(words)


class Times(msgspec.Struct, frozen=True):
    """Of several durations, in seconds."""

    min: float
    median: float
    max: float


class Failure(msgspec.Struct, frozen=True):
    """A violation, where it was found, and what repeats its round."""

    round: int
    kill: int
    found_by: str
    violation: Violation
    repeat: str


class Quarantined(msgspec.Struct, frozen=True):
    """What recovery set aside: a write that a kill cut off in the middle."""

    round: int
    space: str
    file: str


class Count(msgspec.Struct, frozen=True):
    """Of one operation: how often it was answered, got no answer, and was rightly refused."""

    acknowledged: int
    unanswered: int
    refused: int


class Report(msgspec.Struct, kw_only=True):
    """Everything there is to say. `result` is `clean`, `violations` or `interrupted`."""

    result: str = "clean"
    seed: int
    iterations: int
    spaces: int
    clients: int
    kills: int = 0
    kills_by_moment: dict[str, int] = {}
    rounds: int = 0
    began: datetime
    took_s: float = 0.0
    operations: dict[str, Count] = {}
    acknowledged: int = 0
    unanswered: int = 0
    unanswered_found: int = 0
    events: int = 0
    spaces_made: int = 0
    subscribers: int = 0
    subscribers_told: int = 0
    subscribers_told_gone: int = 0
    compactions: int = 0
    let_go: int = 0
    purged: int = 0
    ready_s: Times | None = None
    opened_s: Times | None = None
    quarantined: list[Quarantined] = []
    violations: list[Failure] = []
    repeat: str
    continue_with: str | None = None
    kept: str | None = None
    versions: dict[str, str]
    machine: dict[str, str]


class Tally:
    """Gathers over all rounds what the report says at the end."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.began = datetime.now(UTC)
        self.kills: Counter[str] = Counter()
        self.rounds = 0
        self.acknowledged: Counter[str] = Counter()
        self.unanswered: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.unanswered_found = 0
        self.events = 0
        self.spaces_made = 0
        self.subscribers = 0
        self.subscribers_told = 0
        self.subscribers_told_gone = 0
        self.compactions = 0
        self.let_go = 0
        self.purged_words = 0
        self.ready_s: list[float] = []
        self.opened_s: list[float] = []
        self.quarantined: list[Quarantined] = []
        self.failures: list[Failure] = []

    def report(self, folder: Path, *, kept: bool, interrupted: bool = False) -> Report:
        options, kills = self.options, self.kills.total()
        names = self.acknowledged | self.unanswered | self.refused
        left = options.iterations - kills
        unharmed = "interrupted" if interrupted else "clean"
        return Report(
            result="violations" if self.failures else unharmed,
            seed=options.seed,
            iterations=options.iterations,
            spaces=options.spaces,
            clients=options.clients,
            kills=kills,
            kills_by_moment=dict(self.kills),
            rounds=self.rounds,
            began=self.began,
            took_s=round((datetime.now(UTC) - self.began).total_seconds(), 3),
            operations={
                name: Count(self.acknowledged[name], self.unanswered[name], self.refused[name])
                for name in sorted(names)
            },
            acknowledged=self.acknowledged.total(),
            unanswered=self.unanswered.total(),
            unanswered_found=self.unanswered_found,
            events=self.events,
            spaces_made=self.spaces_made,
            subscribers=self.subscribers,
            subscribers_told=self.subscribers_told,
            subscribers_told_gone=self.subscribers_told_gone,
            compactions=self.compactions,
            let_go=self.let_go,
            purged=self.purged_words,
            ready_s=times_of(self.ready_s),
            opened_s=times_of(self.opened_s),
            quarantined=self.quarantined,
            violations=self.failures,
            repeat=options.command(),
            continue_with=(
                options.command(seed=options.seed + self.rounds, iterations=left)
                if left > 0 and not self.failures
                else None
            ),
            kept=str(folder) if kept else None,
            versions=versions(),
            machine=machine(folder),
        )


def times_of(seconds: Sequence[float]) -> Times | None:
    if not seconds:
        return None
    parts = (min(seconds), statistics.median(seconds), max(seconds))
    return Times(*(round(part, 4) for part in parts))


def versions() -> dict[str, str]:
    from engram import __version__

    return {
        "engram": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def machine(folder: Path) -> dict[str, str]:
    return {
        "platform": platform.platform(),
        "cpus": str(os.cpu_count() or "?"),
        "filesystem": filesystem_of(folder),
    }


def filesystem_of(folder: Path) -> str:
    """Its type, as /proc/self/mounts names it; `?` where nobody knows."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "?"
    best = ("", "?")
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        if folder.absolute().is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


def text_of(report: Report) -> Iterator[str]:
    """The report as lines of text."""
    yield "Crash-recovery drill of Engram"
    yield ""
    yield _verdict(report)
    yield ""
    for name, value in _fields(report):
        yield f"{name:<14}{value}"
    yield ""
    width = max([len(name) for name in report.operations], default=9)
    yield f"{'operation':<{width}}  acknowledged  unanswered  refused"
    for name, count in report.operations.items():
        figures = f"{count.acknowledged:>12,}  {count.unanswered:>10,}  {count.refused:>7,}"
        yield f"{name:<{width}}  {figures}"
    for number, failure in enumerate(report.violations[:VIOLATIONS_SHOWN_MAX], 1):
        yield ""
        yield from _failure_lines(number, failure)
    if len(report.violations) > VIOLATIONS_SHOWN_MAX:
        yield ""
        yield f"and {len(report.violations) - VIOLATIONS_SHOWN_MAX} more, which --json lists"


def _verdict(report: Report) -> str:
    kills = _counted(report.kills, "kill")
    if report.violations:
        return f"FAILED: {_counted(len(report.violations), 'violation')} after {kills}"
    done = f"{kills}, {_counted(report.acknowledged, 'acknowledged operation')}"
    if report.result == "interrupted":
        return f"INTERRUPTED: {done}, nothing wrong up to then"
    return f"CLEAN: {done}, nothing lost, nothing invented"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _fields(report: Report) -> Iterator[tuple[str, str]]:
    moments = ", ".join(f"{count} {name}" for name, count in sorted(report.kills_by_moment.items()))
    yield "began", report.began.strftime("%Y-%m-%d %H:%M:%SZ") + f", took {report.took_s:.1f} s"
    yield "kills", f"{report.kills} of {report.iterations} (SIGKILL): {moments or 'none'}"
    yield "rounds", f"{report.rounds} finished, each on a new data root"
    yield (
        "unanswered",
        (
            f"{report.unanswered:,} when a kill came, of which {report.unanswered_found:,} writes "
            "turned out to be done, whole"
        ),
    )
    yield (
        "compared",
        (
            f"{report.events:,} events in {report.spaces_made} spaces, again after each restart; "
            f"{report.subscribers} subscribers were told {report.subscribers_told:,}"
        ),
    )
    yield (
        "compacted",
        (
            f"{report.compactions:,} times, by which {report.let_go:,} positions were let go of, "
            f"and subscribers told so {report.subscribers_told_gone:,} times"
        ),
    )
    yield "purged", f"{report.purged:,} contents, looked for in all files"
    for name, times in (("ready after", report.ready_s), ("opened after", report.opened_s)):
        if times is not None:
            yield name, f"{times.min:.2f} / {times.median:.2f} / {times.max:.2f} s (min/median/max)"
    files = _counted(len(report.quarantined), "unfinished tail")
    yield "quarantined", f"{files}, cut off by a kill" if report.quarantined else "nothing"
    yield "engram", ", on ".join(report.versions.values())
    yield "machine", "{platform}, {cpus} CPUs, {filesystem}".format(**report.machine)
    yield "repeat", report.repeat
    if report.continue_with is not None:
        yield "go on with", report.continue_with
    if report.kept is not None:
        yield "kept in", report.kept


def _failure_lines(number: int, failure: Failure) -> Iterator[str]:
    violation = failure.violation
    where = "" if violation.space is None else f" in space {violation.space}"
    yield f"{number}. {violation.kind}{where}, found by {failure.found_by}"
    yield f"   {violation.detail}"
    yield f"   round {failure.round}, after kill {failure.kill}; repeat: {failure.repeat}"
