"""How often a space may be asked for something: one bucket of tokens for writes, one for recalls.

A bucket holds as many tokens as a second brings, so that what comes at once after a pause is
served, and each request takes one. Whoever serves others asks it before any work is done
(:meth:`engram.Space.charge`); a program that uses its own spaces is not held up by them.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Literal

from engram.errors import RateLimited
from engram.memory.quotas import Quotas

Charge = Literal["writes", "recalls"]
"""What a request is counted as."""


class Bucket:
    """Tokens, as of a time in seconds; None while it was never asked. Not thread-safe."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._at_s: float | None = None

    def take(self, per_second: int, now_s: float) -> float:
        """Take a token; or, without taking one, the seconds until there is one. The rate may be
        another one each time.
        """
        if self._at_s is None:
            self._tokens = float(per_second)
        else:
            self._tokens += max(0.0, now_s - self._at_s) * per_second
        self._tokens = min(self._tokens, float(per_second))
        self._at_s = now_s
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / per_second


class Rates:
    """The buckets of one space. Thread-safe; `clock` tells seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._buckets: dict[Charge, Bucket] = {"writes": Bucket(), "recalls": Bucket()}

    def charge(self, charge: Charge, quotas: Quotas, memory_space_id: str) -> None:
        """Count a request. Raises :class:`engram.errors.RateLimited`, which costs nothing."""
        writes = charge == "writes"
        per_second = quotas.writes_per_second if writes else quotas.recalls_per_second
        if per_second is None:
            return
        with self._guard:
            wait_s = self._buckets[charge].take(per_second, self._clock())
        if wait_s > 0.0:
            raise RateLimited(
                f"space {memory_space_id!r} takes {per_second} {charge} a second, and there were "
                "more; nothing was done. Come again a little later, put several memories into one "
                "request, or raise the quota"
                if writes
                else f"space {memory_space_id!r} takes {per_second} {charge} a second, and there "
                "were more. Come again a little later, or raise the quota",
                memory_space_id=memory_space_id,
                retry_after_s=max(1, math.ceil(wait_s)),
            )
