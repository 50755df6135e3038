"""All spaces of one data root: which there are, what was asked and answered, and how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from engram.drill.effects import Violation, Write
from engram.drill.model import SpaceModel
from engram.memory.model import Compaction, Forgotten, Memory, PurgeReceipt

LIVE: Final = "live"
DELETED: Final = "deleted"
GONE: Final = "gone"
PRIVATE_MARK: Final = "-ending-"
"""In the names of spaces that one client has to itself, and that come to an end."""


@dataclass
class Ledger:
    """Filled by the clients, judged after each restart. For one event loop."""

    on_acknowledge: Callable[[], None] = lambda: None
    """Called with every acknowledgement, before its client does anything else."""
    models: dict[str, SpaceModel] = field(default_factory=dict)
    states: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """What each space may be: one state, or two where a step had no answer yet, the later last."""
    shared: list[str] = field(default_factory=list)
    """The spaces that every client uses."""
    acknowledged: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    found_unanswered: int = 0
    purged_words: dict[str, str] = field(default_factory=dict)
    """What was written in spaces that are purged, with their names."""
    violations: list[Violation] = field(default_factory=list)

    def begin(self, write: Write) -> None:
        """Announce a write, before a byte of it is sent."""
        self.models[write.space].open.append(write)

    def acknowledge(self, write: Write, answers: Sequence[Memory | Forgotten]) -> None:
        self.violations += self.models[write.space].acknowledge(write, answers)
        self.count(write.operation)

    def acknowledge_purge(self, write: Write, receipt: PurgeReceipt) -> None:
        self.violations += self.models[write.space].acknowledge_purge(write, receipt)
        self.count(write.operation)

    def acknowledge_unplaced(self, write: Write) -> None:
        self.models[write.space].acknowledge_unplaced(write)
        self.count(write.operation)

    def acknowledge_compaction(self, operation: str, answer: Compaction) -> None:
        self.models[answer.memory_space_id].acknowledge_compaction(answer)
        self.count(operation)

    def withdraw(self, write: Write) -> None:
        """It was refused, or never sent: nothing of it may be there."""
        self.models[write.space].open.remove(write)

    def count(self, operation: str) -> None:
        self.acknowledged[operation] += 1
        self.on_acknowledge()

    def announce(self, name: str, state: str) -> None:
        """A space is about to be asked into another state. A new life of it begins empty."""
        before = self.states.get(name, (GONE,))
        if before == (GONE,):
            old = self.models.get(name)
            former = set() if old is None else old.former | {old.uuid}
            self.models[name] = SpaceModel(name, former=former)
        else:
            self.models[name].endings += 1
        self.states[name] = (*before, state)

    def settle_state(self, name: str, state: str) -> None:
        """It is known which of its states a space has: an answer said so, or a look."""
        self.states[name] = (state,)
        if state == GONE and name in self.models:
            self.purged_words.update(dict.fromkeys(self.models[name].all_words(), name))
        if state == LIVE and PRIVATE_MARK not in name and name not in self.shared:
            self.shared.append(name)

    def in_state(self, state: str) -> set[str]:
        return {name for name, states in self.states.items() if states == (state,)}

    def gone_words(self) -> dict[str, str]:
        """What may stand in no file any more, with the spaces it was written in."""
        gone = dict(self.purged_words)
        for name, model in self.models.items():
            gone.update(dict.fromkeys(model.purged_words, name))
        return gone

    def settle_spaces(self, live: Iterable[str], deleted: Iterable[str]) -> None:
        """Compare which spaces there are with what was asked for; afterwards that is known."""
        there = {**dict.fromkeys(deleted, DELETED), **dict.fromkeys(live, LIVE)}
        for name in sorted(there.keys() - self.states.keys()):
            self._report("phantom", f"space {name!r} was asked for by nobody", name)
        for name, possible in self.states.items():
            state = there.get(name, GONE)
            if state in possible:
                self.found_unanswered += len(possible) > 1 and state == possible[-1]
                self.settle_state(name, state)
                continue
            kind = "lost" if LIVE in possible or state == GONE else "phantom"
            self._report(kind, f"space {name!r} is {state}, not {' or '.join(possible)}", name)

    def report(self, found: Iterable[Violation]) -> None:
        self.violations += found

    def _report(self, kind: str, detail: str, space: str) -> None:
        self.violations.append(Violation(kind=kind, detail=detail, space=space))
