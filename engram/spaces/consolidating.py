"""What a handle can do about beliefs: have them formed of its episodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engram.memory import validate as check
from engram.memory.beliefs import Consolidation
from engram.spaces.consolidator import chosen_summariser

if TYPE_CHECKING:
    from engram.spaces.entry import Entry


class _Handle(Protocol):
    """What consolidating needs of the handle it is a part of."""

    _entry: Entry


class Consolidating:
    """The part of :class:`engram.Space` that forms beliefs."""

    def consolidate(self: _Handle, *, dry_run: bool = False) -> Consolidation:
        """Form beliefs of what recurs among the episodes of the space; durable when this returns.

        Episodes that are alike (by their embeddings) and that no belief rests on yet join one, or
        at least three of them make a new one: a memory of kind `belief` whose content is their most
        central sentences. Only what is new counts: asked again, it changes nothing. A belief is
        forgotten with the first memory it rests on that is forgotten or revised, purged with one
        that is purged, and formed anew of what still holds the next time. One that was revised by
        hand is left as it is, and one forgotten by hand is not formed again of the same memories.

        With `dry_run`, it is only told what would be formed. Where a consolidation runs already,
        this waits for it. Raises :class:`engram.errors.DiskFull`; whole beliefs are stored then, or
        not.

        With `openai:<model>` in the environment variable ENGRAM_SUMMARISER, a model of a server
        writes the content, one request for each belief, with `dry_run` too. Raises
        :class:`engram.errors.Unavailable` if one fails; nothing is stored then.
        """
        check.check_flag("dry_run", dry_run)
        with self._entry.pinned() as store:
            return store.consolidator.run(chosen_summariser(), dry_run=dry_run)
