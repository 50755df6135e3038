"""The JSON shapes of what can be set about a space. Pure; see :mod:`engram.server.wire`."""

from __future__ import annotations

from typing import Final, cast

import msgspec

from engram.memory.decay import Decay, checked_decay
from engram.memory.forgetting import Forgetting
from engram.memory.policies import checked_forgetting
from engram.memory.quotas import Quotas, checked_quotas
from engram.memory.retention import Retention, checked_retention
from engram.memory.rhythm import Rhythm, checked_rhythm
from engram.memory.settings import SettingsGiven

_Unset = msgspec.UnsetType
_UNSET: Final = msgspec.UNSET


class RetentionBody(msgspec.Struct, forbid_unknown_fields=True):
    """One of the two, or neither for all of history."""

    positions: int | None = None
    age_s: int | None = None

    def checked(self, field: str) -> Retention:
        return checked_retention(field, self.positions, self.age_s)


class DecayBody(msgspec.Struct, forbid_unknown_fields=True):
    """Its parts; what is left out has the default of its family."""

    family: str = "power"
    exponent: float | None = None
    half_life_s: int | None = None
    weight: float | None = None

    def checked(self, field: str) -> Decay:
        return checked_decay(field, self.family, self.exponent, self.half_life_s, self.weight)


class ForgettingBody(msgspec.Struct, forbid_unknown_fields=True):
    """Its parts; without a capacity and a threshold nothing is forgotten."""

    capacity: int | None = None
    threshold: float | None = None
    grace_s: int | None = None
    spare_kinds: list[str] = []
    spare_tags: list[str] = []

    def checked(self, field: str) -> Forgetting:
        return checked_forgetting(field, **msgspec.structs.asdict(self))


class RhythmBody(msgspec.Struct, forbid_unknown_fields=True):
    """One of the two, both, or neither for consolidating only when asked."""

    after: int | None = None
    every_s: int | None = None

    def checked(self, field: str) -> Rhythm:
        return checked_rhythm(field, self.after, self.every_s)


class QuotasBody(msgspec.Struct, forbid_unknown_fields=True):
    """What is left out, or null, has no quota of the space's own."""

    memories: int | None = None
    bytes: int | None = None
    writes_per_second: int | None = None
    recalls_per_second: int | None = None
    subscribers: int | None = None

    def checked(self, field: str) -> Quotas:
        return checked_quotas(field, msgspec.structs.asdict(self))


class SettingsBody(msgspec.Struct, forbid_unknown_fields=True):
    """`PATCH` of a space; each setting may be given as text too, and what is left out stays."""

    retention: RetentionBody | str | _Unset = _UNSET
    decay: DecayBody | str | _Unset = _UNSET
    forgetting: ForgettingBody | str | _Unset = _UNSET
    consolidation: RhythmBody | str | _Unset = _UNSET
    quotas: QuotasBody | str | _Unset = _UNSET

    def given(self) -> SettingsGiven:
        """What was given, as :meth:`engram.Space.configure` takes it."""
        given = {
            name: value if isinstance(value, str) else value.checked(name)
            for name, value in msgspec.structs.asdict(self).items()
            if value is not _UNSET
        }
        return cast("SettingsGiven", given)
