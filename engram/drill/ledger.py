"""All spaces of one data root: who is there, what was asked and answered, and how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from engram.drill.model import SpaceModel, Violation, Write
from engram.memory.model import Forgotten, Memory


@dataclass
class Ledger:
    """Filled by the clients, judged after each restart. For one event loop."""

    on_acknowledge: Callable[[], None] = lambda: None
    """Called with every acknowledgement, before its client does anything else."""
    models: dict[str, SpaceModel] = field(default_factory=dict)
    creating: set[str] = field(default_factory=set)
    """Spaces whose creation was asked for and not answered."""
    acknowledged: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    found_unanswered: int = 0
    violations: list[Violation] = field(default_factory=list)

    def begin(self, write: Write) -> None:
        """Announce a write, before a byte of it is sent."""
        self.models[write.space].open.append(write)

    def acknowledge(self, write: Write, answers: Sequence[Memory | Forgotten]) -> None:
        self.violations += self.models[write.space].acknowledge(write, answers)
        self.count(write.operation)

    def withdraw(self, write: Write) -> None:
        """It was refused, or never sent: nothing of it may be there."""
        self.models[write.space].open.remove(write)

    def count(self, operation: str) -> None:
        self.acknowledged[operation] += 1
        self.on_acknowledge()

    def space_made(self, name: str) -> None:
        """Its creation was acknowledged: from now on it has to be there."""
        self.creating.discard(name)
        self.models[name] = SpaceModel(name)

    def settle_spaces(self, there: Iterable[str]) -> None:
        """Compare the names of all spaces with what was asked for; afterwards they are known."""
        names = set(there)
        for name in sorted(self.models.keys() - names):
            self._report("lost", f"space {name!r} was there, and is not listed", name)
        for name in sorted(names - self.models.keys()):
            if name in self.creating:
                self.space_made(name)
                self.found_unanswered += 1
            else:
                self._report("phantom", f"space {name!r} was asked for by nobody", name)
        self.creating.clear()

    def report(self, found: Iterable[Violation]) -> None:
        self.violations += found

    def _report(self, kind: str, detail: str, space: str) -> None:
        self.violations.append(Violation(kind=kind, detail=detail, space=space))
