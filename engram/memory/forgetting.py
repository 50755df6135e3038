"""What a space forgets without anybody's asking for each memory, and why. Pure.

A memory whose time is up is *expired*. A space may have a policy beside: so many living memories at
most, where the weakest go that are beyond its *capacity*; and a threshold of base level below which
a memory has *faded* (:mod:`engram.memory.decay` says how base levels fall). Kinds and tags can be
spared from it. Without a policy, which is the default, nothing but what expired is forgotten.

The textual form is `none`, or what there is of these, with commas between: `capacity:50000`,
`threshold:-7.5`, `grace:1d`, `spare:belief`, `spare-tag:pinned` (in a tag, a comma is `%2C` and a
percent sign `%25`). :mod:`engram.memory.policies` reads it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Final, NamedTuple

import msgspec

from engram.memory.durations import DURATION_S_MAX, duration_text
from engram.memory.kinds import Kind

REQUEST: Final = "request"
EXPIRED: Final = "expired"
CAPACITY: Final = "capacity"
FADED: Final = "faded"

CAPACITY_MAX: Final = 1_000_000_000
LEVEL_MAX: Final = 1e9
"""How far from 0 a threshold may lie; base levels are told as no lower than that either."""
GRACE_S_DEFAULT: Final = 24 * 3_600


class Forgetting(msgspec.Struct, frozen=True, kw_only=True):
    """A policy: no more than `capacity` living memories, and none of a base level below `threshold`
    that was stored, revised or restored longer ago than `grace_s`, which goes with a threshold
    alone. Memories of `spare_kinds`, or with one of `spare_tags`, count but stay, and so does what
    beliefs among them rest on.
    """

    capacity: Annotated[int, msgspec.Meta(ge=1, le=CAPACITY_MAX)] | None = None
    threshold: float | None = None
    grace_s: Annotated[int, msgspec.Meta(ge=0, le=DURATION_S_MAX)] | None = None
    spare_kinds: tuple[Kind, ...] = ()
    spare_tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.threshold is None and self.grace_s is not None:
            raise ValueError(f"a policy {GRACE_ALONE}")
        if self.threshold is not None and self.grace_s is None:
            msgspec.structs.force_setattr(self, "grace_s", GRACE_S_DEFAULT)
        # A file may hold a number that is none, or a whole one, which declared bounds let pass.
        if self.threshold is not None and not -LEVEL_MAX <= self.threshold <= LEVEL_MAX:
            raise ValueError(f"a threshold must be a number from {-LEVEL_MAX:g} to {LEVEL_MAX:g}")

    def __bool__(self) -> bool:
        """Whether anything is forgotten by it."""
        return self.capacity is not None or self.threshold is not None

    def spares(self, kind: Kind, tags: Collection[str]) -> bool:
        """Whether it leaves memories of that kind and with these tags alone."""
        return kind in self.spare_kinds or any(tag in tags for tag in self.spare_tags)

    def bound(self, reason: str) -> float | None:
        """What has a memory forgotten for a reason: how many may live, or the threshold."""
        if reason == CAPACITY and self.capacity is not None:
            return float(self.capacity)
        return self.threshold if reason == FADED else None

    def __str__(self) -> str:
        """The textual form."""
        parts = []
        if self.capacity is not None:
            parts.append(f"capacity:{self.capacity}")
        if self.threshold is not None:
            parts.append(f"threshold:{self.threshold!r}")
        if self.grace_s is not None and self.grace_s != GRACE_S_DEFAULT:
            parts.append(f"grace:{duration_text(self.grace_s)}")
        parts += [f"spare:{kind}" for kind in self.spare_kinds]
        for tag in self.spare_tags:
            parts.append("spare-tag:" + tag.replace("%", "%25").replace(",", "%2C"))
        return ",".join(parts) or "none"


GRACE_ALONE: Final = "has a grace only beside a threshold, which alone it is for"
FORGET_NOTHING: Final = Forgetting()


class Judged(NamedTuple):
    """A memory that is to be forgotten, and why; `revision` is the one that was judged."""

    id: str
    revision: int
    reason: str
    base_level: float | None = None


class NothingLeft(Exception):
    """Of all that was judged to go, nothing has to go any more."""


class Lapsed(msgspec.Struct, frozen=True, kw_only=True):
    """A memory that was forgotten, or would be, and why: `reason` is `expired`, `capacity` or
    `faded`, or `source-forgotten` for a belief that went with what it rested on. For `capacity` and
    `faded`, `base_level` is how strong it was, and `bound` the capacity or threshold. `position` is
    that of its event, None where nothing was done.
    """

    id: str
    revision: int
    reason: str
    base_level: float | None = None
    bound: float | None = None
    position: int | None = None


class ForgettingReport(msgspec.Struct, frozen=True, kw_only=True):
    """What applying a space's policy came to, or with `dry_run` would come to.

    `count` is how many memories, of which `memories` are the first; `forgetting` is the policy.
    `position` is that of the view which the last of it was found in.
    """

    memory_space_id: str
    dry_run: bool
    forgetting: Forgetting
    count: int
    memories: tuple[Lapsed, ...]
    position: int
