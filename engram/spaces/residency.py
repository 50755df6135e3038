"""Which spaces are open: within bounds, those used least recently make room for the next.

An open space takes file descriptors and memory. When opening one goes beyond a bound, others are
closed cleanly, so that everything of theirs is on disk, and each opens again at its next use, which
nobody notices but by the time it takes. A space that somebody follows stays open, and so does one
that is not well: what a user has to look at is not read anew behind their back. Where all are such,
a bound is exceeded rather than a space refused.
"""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, TypeVar

from engram.spaces.disk_errors import EXHAUSTED

_T = TypeVar("_T")

OPEN_SPACES_MAX: Final = 1_024
OPEN_BYTES_MAX: Final = 2 << 30
PAST_BYTES_MAX: Final = 256 << 20
DESCRIPTORS_A_SPACE: Final = 5
"""The folder, its lock, the log's folder, the active segment, and the checkpoint that is mapped."""
_DESCRIPTORS_SHARE: Final = 2
"""All open spaces may take one of so many of the descriptors that the process may have."""
_RELIEVED_MAX: Final = 4
"""How many spaces make room when the process is out of descriptors: for one, and to work in it."""


class Bounds(NamedTuple):
    """What the open spaces of one data root may take: their number, and bytes of memory; and of
    those, what past states may take that are kept (:mod:`engram.spaces.past`).
    """

    spaces: int = OPEN_SPACES_MAX
    bytes: int = OPEN_BYTES_MAX
    past_bytes: int = PAST_BYTES_MAX


class Resident(Protocol):
    """A space that is open, or about to be."""

    @property
    def used_s(self) -> float:
        """When it was last used, on the clock of :func:`time.monotonic`."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory it takes, about."""

    def rest(self) -> bool:
        """Close it if it can be spared now; whether it was closed. Never waits for another."""


class Residency:
    """The open spaces of one data root. Thread-safe; takes no lock of a space while it has its
    own.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._guard = threading.Lock()
        self._residents: set[Resident] = set()

    @property
    def spaces_max(self) -> int:
        """How many spaces may be open now: the bound, or what the limit on open files leaves."""
        files_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files_max == resource.RLIM_INFINITY:
            return self.bounds.spaces
        share = files_max // _DESCRIPTORS_SHARE // DESCRIPTORS_A_SPACE
        return max(1, min(self.bounds.spaces, share))

    def __len__(self) -> int:
        return len(self._residents)

    def admit(self, resident: Resident) -> None:
        """Count a space that is about to be opened, and make room for it."""
        with self._guard:
            self._residents.add(resident)
        spaces_max = self.spaces_max
        self._close_while(lambda: len(self._residents) > spaces_max, resident)

    def settle(self, resident: Resident) -> None:
        """Now that a space is open, keep what all of them take within the bound, if others can."""
        self._close_while(lambda: self.nbytes > self.bounds.bytes, resident)

    def dismiss(self, resident: Resident) -> None:
        """Count a space no longer: it is closed. Idempotent."""
        with self._guard:
            self._residents.discard(resident)

    @property
    def nbytes(self) -> int:
        return sum(resident.nbytes for resident in self.residents())

    def relieved(self, attempt: Callable[[], _T]) -> _T:
        """What `attempt` returns; where the system has nothing left for it, spaces are closed, if
        any can be spared, and it is made once more.
        """
        try:
            return attempt()
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
            before = len(self)
            self._close_while(lambda: len(self) > before - _RELIEVED_MAX, None)
            if len(self) >= before:
                raise
        return attempt()

    def _close_while(self, too_much: Callable[[], bool], kept: Resident | None) -> None:
        if not too_much():
            return
        for resident in sorted(self.residents(), key=lambda resident: resident.used_s):
            if resident is not kept and resident.rest() and not too_much():
                return

    def residents(self) -> list[Resident]:
        """The spaces that are open, or about to be."""
        with self._guard:
            return list(self._residents)
