"""Which requests are sent again, when, and how often. Pure, but for chance.

A request may be sent again if that cannot do anything twice: it reads, or it has a key by which the
server does it once. It is if the server was lost on the way or did not answer, and if it says that
it cannot now: it is busy, is ending, or is working on this very request. Of a server that was never
reached nothing is expected: that is told at once.
"""

from __future__ import annotations

import random
import re
import time
from typing import Final

from engram.client.answers import Answer, error_of
from engram.errors import (
    EngramError,
    InProgress,
    Malformed,
    OutcomeUnknown,
    RateLimited,
    ServerUnreachable,
    Unavailable,
)

RETRY_S: Final = 10.0
PAUSE_S_FIRST: Final = 0.05
PAUSE_S_MAX: Final = 2.0
_NOT_NOW: Final = (Unavailable, RateLimited)
Outcome = Answer | EngramError | None
"""An answer, an error, or None for a connection that was lost on the way."""


class Repeats:
    """The attempts at one request: `safe` says whether it may be sent again."""

    def __init__(self, retry_s: float, *, write: bool, key: str | None) -> None:
        self._end_s = time.monotonic() + retry_s
        self._safe = not write or key is not None
        self._keyed = key is not None
        self._tries = 0
        self.sent = False
        """Whether an attempt that was given up may have been done."""

    def pause_s(self, outcome: Outcome, sent: bool) -> float | None:
        """How long to wait before it is sent again; None if it is not. `sent` says whether any of
        it was sent this time.
        """
        self.sent = self.sent or (sent and not isinstance(outcome, Answer))
        if not self._safe or not self._may_pass(outcome):
            return None
        self._tries += 1
        pause_s = min(PAUSE_S_FIRST * 2.0 ** (self._tries - 1), PAUSE_S_MAX)
        pause_s *= random.uniform(0.5, 1.0)  # so that many do not come at once
        if isinstance(outcome, Answer) and outcome.retry_after_s is not None:
            pause_s = max(pause_s, outcome.retry_after_s)
        return pause_s if time.monotonic() + pause_s < self._end_s else None

    def _may_pass(self, outcome: Outcome) -> bool:
        if isinstance(outcome, Answer):
            if outcome.status not in (409, 429, 503):
                return False
            error = error_of(outcome)
            return isinstance(error, _NOT_NOW) or (self._keyed and isinstance(error, InProgress))
        if isinstance(outcome, ServerUnreachable):
            return self.sent
        return outcome is None or isinstance(outcome, OutcomeUnknown)


def checked_retry_s(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise Malformed("retry_s must be a number of seconds from 0 on; 0 never sends again")
    return float(value)


def checked_idempotency_key(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]([ -~]{0,253}[!-~])?", value):
        raise Malformed(
            "idempotency_key must have 1 to 255 printable ASCII characters, as a UUID, and no "
            "outer spaces"
        )
    return value


def retry_after_s(header: str | None) -> float | None:
    """The seconds that a server asks to wait for."""
    if header is None or not re.fullmatch(r"[0-9]{1,6}", header):
        return None
    return float(header)
