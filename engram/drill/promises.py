"""What the clients of one space were told, and what its log was seen to say. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from engram.drill.effects import (
    COMPACTED,
    FORGOTTEN,
    Acknowledged,
    Effect,
    Held,
    Mark,
    Violation,
    Write,
    effect_of_memory,
    word_of,
)
from engram.memory.model import Compaction, Forgotten, Memory, PurgeReceipt


@dataclass
class Promises:
    """What is known of one space. `uuid` is what it had when it was first looked at."""

    name: str
    uuid: str | None = None
    marks: list[Mark] = field(default_factory=list)
    oldest: int = 1
    """The oldest position that has to be read from, or a later one."""
    living: dict[str, Held] = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)
    """The last revision of every id there ever was."""
    last: dict[str, Effect] = field(default_factory=dict)
    """The last version of every id, living or forgotten, that was not purged."""
    ended: dict[str, int] = field(default_factory=dict)
    """Where ids were forgotten or purged."""
    acknowledged: dict[int, Acknowledged] = field(default_factory=dict)
    """By position, since the log was last read."""
    unplaced: list[Effect] = field(default_factory=list)
    """Acknowledged without a position, since the log was last read."""
    open: list[Write] = field(default_factory=list)
    endings: int = 0
    """How many deletions and restorations were asked for, since the log was last read."""
    former: set[str | None] = field(default_factory=set)
    """The uuids of earlier lives under the same id."""
    recalls_answered: set[str] = field(default_factory=set)
    recalls_unanswered: int = 0
    recalled: tuple[str | None, int] = (None, 0)
    """The last recall on record, and where."""
    found_unanswered: int = 0
    """How many open writes turned out to have been done."""
    retention: str = "all"
    kept_min: int | None = None
    """The fewest positions that anybody ever asked it to keep; None: all of them."""
    purged_at: dict[str, int] = field(default_factory=dict)
    purges: dict[str, int] = field(default_factory=dict)
    """The same, with those that the log was just seen to have."""
    completed_to: int = 0
    """Purges up to this position are complete, as the log says."""
    compactions: set[int] = field(default_factory=set)
    """Where acknowledged compactions stand, of which the log has to tell."""
    compacted: int = 0
    """How many compactions the log has told of."""
    words: dict[str, set[str]] = field(default_factory=dict)
    """What stands in the contents of an id and nowhere else."""
    purged_words: set[str] = field(default_factory=set)
    """Those that may stand in no file any more."""
    unsure: set[str] = field(default_factory=set)
    """Ids to which something may have happened where nothing can be read any more."""

    @property
    def forgotten(self) -> list[str]:
        return [memory_id for memory_id in self.revisions if memory_id not in self.living]

    def acknowledge(
        self, write: Write, answers: Sequence[Memory | Forgotten]
    ) -> Iterator[Violation]:
        """Take the answer to a write: a memory or a forgetting for each of its effects."""
        self.open.remove(write)
        if len(answers) != len(write.effects):
            yield self._violation(
                "wrong answer", f"{len(answers)} answers to the {len(write.effects)} of a write"
            )
        for effect, answer in zip(write.effects, answers, strict=False):
            told = Effect(FORGOTTEN, answer.id)
            if isinstance(answer, Memory):
                told = effect_of_memory(effect.type, answer)
            position = answer.position
            if told != effect:
                detail = f"{effect} was answered with {told}"
                yield self._violation("wrong answer", detail, effect.id, position)
            revision = answer.revision if isinstance(answer, Memory) else None
            yield from self._place(position, Acknowledged(effect, revision))
            if effect.content and position < self.purged_at.get(effect.id, 0):
                self.purged_words.add(word_of(effect.content))

    def acknowledge_purge(self, write: Write, receipt: PurgeReceipt) -> Iterator[Violation]:
        """Take the receipt of a purge, its own or that of one before it: it is done, and complete.

        Positions that were acknowledged twice are the same purge, or the same completion.
        """
        self.open.remove(write)
        (effect,) = write.effects
        for position, told in (
            (receipt.position, effect),
            (receipt.completed_position, Effect(COMPACTED, "")),
        ):
            same = self.acknowledged.get(position)
            read = self.marks[position - 1].label if position <= len(self.marks) else None
            if read not in {str(told), ""} and (same is None or same.effect != told):
                yield from self._place(position, Acknowledged(told, None))
        if not receipt.position < receipt.completed_position:
            detail = f"a purge at {receipt.position} is complete at {receipt.completed_position}"
            yield self._violation("wrong answer", detail, effect.id, receipt.position)
        self.purged_at[effect.id] = max(receipt.position, self.purged_at.get(effect.id, 0))
        self.purged_words |= {
            word_of(one.content)
            for position, (one, _) in self.acknowledged.items()
            if one.id == effect.id and one.content and position < receipt.position
        }
        if receipt.position > len(self.marks):
            self.purged_words |= self.words.get(effect.id, set())

    def acknowledge_unplaced(self, write: Write) -> None:
        """Take an answer that does not say where its effects stand."""
        self.open.remove(write)
        self.unplaced += write.effects

    def acknowledge_compaction(self, answer: Compaction) -> None:
        self.oldest = max(self.oldest, answer.oldest_position)
        # One that a kill kept from being told is joined, not told of.
        if answer.checkpoint_position > len(self.marks):
            self.compactions.add(answer.checkpoint_position)

    def ask_to_keep(self, positions: int) -> None:
        """History may be let go of from now on, but for the last `positions`."""
        self.kept_min = min(positions, self.kept_min or positions)

    def all_words(self) -> set[str]:
        """Everything that was ever written here."""
        effects = [effect for write in self.open for effect in write.effects]
        effects += [one.effect for one in self.acknowledged.values()]
        unsettled = {word_of(effect.content) for effect in effects if effect.id and effect.content}
        return unsettled.union(self.purged_words, *self.words.values())

    def _place(self, position: int, told: Acknowledged) -> Iterator[Violation]:
        effect = told.effect
        if position <= len(self.marks):
            there = self.marks[position - 1].label
            detail = f"{effect} was acknowledged at {position}, where {there} stands"
            yield self._violation("position reused", detail, effect.id, position)
        elif position in self.acknowledged:
            other = self.acknowledged[position].effect
            detail = f"{effect} and {other} were both acknowledged at {position}"
            yield self._violation("position reused", detail, effect.id, position)
        else:
            self.acknowledged[position] = told

    def _violation(
        self, kind: str, detail: str, memory_id: str | None = None, position: int | None = None
    ) -> Violation:
        return Violation(
            kind=kind, detail=detail, space=self.name, memory_id=memory_id, position=position
        )
