"""The part of a handle that is about what a space forgets by itself."""

from __future__ import annotations

from engram.memory import validate as check
from engram.memory.forgetting import ForgettingReport
from engram.spaces.linking import Linking


class Lapsing(Linking):
    """What a space forgets by itself, it can be asked to forget now, or only to name."""

    def apply_forgetting(self, *, dry_run: bool = False) -> ForgettingReport:
        """Forget all that has expired, and what the space's `forgetting` has go, durably; this is
        what happens by itself a little later. The report says what went, and why.

        With `dry_run` nothing is forgotten: it says what would be, and how much. What a policy had
        forgotten can be restored. Raises :class:`engram.errors.Invalid`.
        """
        check.check_flag("dry_run", dry_run)
        with self._entry.pinned() as store:
            return store.forgetter.report() if dry_run else store.forgetter.apply()
