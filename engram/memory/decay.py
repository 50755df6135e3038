"""How a space's memories fade while nobody uses them, and how much that counts in recall. Pure.

A memory's base level grows with each use and falls with the time since (ACT-R, Anderson & Lebiere
1998). `power` is the law that forgetting was found to follow (Wickelgren 1974), `exponential`
halves what a use counts for after each half-life, and with `none` uses count and time does not.
:mod:`engram.cognition.base_level` has the formulas.

The textual form is `power:0.5` (the exponent), `exponential:30d` (the half-life) or `none`, with
`,weight:0.1` behind it if the weight is to be another than the default.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Final, Literal

import msgspec

from engram.errors import Invalid
from engram.memory.durations import DURATION_S_MAX, UNITS, duration_text, seconds_in

Family = Literal["power", "exponential", "none"]
FAMILIES: Final[tuple[Family, ...]] = ("power", "exponential", "none")
EXPONENT_DEFAULT: Final = 0.5
EXPONENT_MIN: Final = 0.01
EXPONENT_MAX: Final = 5.0
HALF_LIFE_S_DEFAULT: Final = 30 * 24 * 3_600
HALF_LIFE_S_MAX: Final = DURATION_S_MAX
WEIGHT_DEFAULT: Final = 0.05
"""So little that LoCoMo loses nothing by it, see docs/benchmarks; twice as much cost a little."""
WEIGHT_MAX: Final = 1.0
_NUMBER: Final = re.compile(r"[0-9]{1,32}(\.[0-9]{1,32})?(e-?[0-9]{1,3})?")
_FORMS: Final = (
    f"power:0.5 (an exponent), exponential:30d (a half-life, {UNITS}) or none, with ,weight:0.1 "
    "behind it for another weight"
)


class Decay(msgspec.Struct, frozen=True, kw_only=True):
    """The law that base levels fall by, and their weight in recall, from 0 (they do not count) to
    1 (as much as the best match).

    `exponent` goes with the family `power` and `half_life_s` with `exponential`; each has a default
    there, and is None elsewhere.
    """

    family: Family = "power"
    exponent: Annotated[float, msgspec.Meta(ge=EXPONENT_MIN, le=EXPONENT_MAX)] | None = None
    half_life_s: Annotated[int, msgspec.Meta(ge=1, le=HALF_LIFE_S_MAX)] | None = None
    weight: Annotated[float, msgspec.Meta(ge=0.0, le=WEIGHT_MAX)] = WEIGHT_DEFAULT

    def __post_init__(self) -> None:
        # A file may hold numbers that are none, which no bound keeps out.
        if math.isnan(self.weight) or (self.exponent is not None and math.isnan(self.exponent)):
            raise ValueError("a decay's numbers must be numbers")
        if self.family == "power" and self.exponent is None:
            msgspec.structs.force_setattr(self, "exponent", EXPONENT_DEFAULT)
        if self.family == "exponential" and self.half_life_s is None:
            msgspec.structs.force_setattr(self, "half_life_s", HALF_LIFE_S_DEFAULT)
        if (self.family != "power" and self.exponent is not None) or (
            self.family != "exponential" and self.half_life_s is not None
        ):
            raise ValueError(f"a decay {_FITTING}")

    def __str__(self) -> str:
        """The textual form."""
        law: str = self.family
        if self.exponent is not None:
            law = f"power:{self.exponent!r}"
        elif self.half_life_s is not None:
            law = f"exponential:{duration_text(self.half_life_s)}"
        return f"{law},weight:{self.weight!r}"


_FITTING: Final = "has an exponent if it is power, a half_life_s if it is exponential, else neither"
DECAY_DEFAULT: Final = Decay()


def check_decay(field: str, value: object) -> Decay:
    """A decay, given as one or in its textual form. Raises :class:`engram.errors.Invalid`."""
    if isinstance(value, str):
        return parse_decay(field, value)
    if not isinstance(value, Decay):
        raise Invalid.of(
            field, f"must be engram.Decay or text, as {_FORMS}; not {type(value).__name__}"
        )
    return checked_decay(field, value.family, value.exponent, value.half_life_s, value.weight)


def checked_decay(
    field: str, family: object, exponent: object, half_life_s: object, weight: object
) -> Decay:
    """The decay of these parts; `field` leads to it in errors."""
    known = next((each for each in FAMILIES if each == family), None)
    if known is None:
        raise Invalid.of(f"{field}.family", f"must be one of {', '.join(FAMILIES)}")
    parts = {
        "exponent": _number(f"{field}.exponent", exponent, EXPONENT_MIN, EXPONENT_MAX),
        "half_life_s": _seconds(f"{field}.half_life_s", half_life_s),
    }
    fitting = {"power": "exponent", "exponential": "half_life_s"}.get(known)
    if any(part is not None and name != fitting for name, part in parts.items()):
        raise Invalid.of(field, _FITTING)
    counting = _number(f"{field}.weight", weight, 0.0, WEIGHT_MAX)
    return Decay(
        family=known,
        exponent=parts["exponent"],
        half_life_s=None if parts["half_life_s"] is None else int(parts["half_life_s"]),
        weight=WEIGHT_DEFAULT if counting is None else counting,
    )


def parse_decay(field: str, text: str) -> Decay:
    """The decay that a text stands for. Raises :class:`engram.errors.Invalid`."""
    law, _, rest = text.partition(",")
    family, given, amount = law.partition(":")
    named, _, weight = rest.partition(":")
    if (
        family not in FAMILIES
        or bool(given) != bool(amount)
        or (family == "none" and given)
        or ("," in text and (named != "weight" or not weight))
    ):
        raise Invalid.of(field, f"{text[:64]!r} is no decay; give {_FORMS}")
    half_life_s = seconds_in(amount)
    if family == "exponential" and given and half_life_s is None:
        raise Invalid.of(field, f"{amount[:32]!r} is no half-life; give 30d for one ({UNITS})")
    return Decay(
        family=next(each for each in FAMILIES if each == family),
        exponent=_said(field, "exponent", amount, EXPONENT_MIN, EXPONENT_MAX)
        if family == "power"
        else None,
        half_life_s=_seconds(field, half_life_s) if family == "exponential" else None,
        weight=_said(field, "weight", weight, 0.0, WEIGHT_MAX) or 0.0 if rest else WEIGHT_DEFAULT,
    )


def _said(field: str, what: str, text: str, least: float, most: float) -> float | None:
    """A number that is written out; None if nothing is."""
    if not text:
        return None
    if not _NUMBER.fullmatch(text):
        raise Invalid.of(field, f"{text[:32]!r} is no {what}; give a number")
    return _number(field, float(text), least, most)


def _number(field: str, value: object, least: float, most: float) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise Invalid.of(field, f"must be a number from {least:g} to {most:g}")
    return float(value)


def _seconds(field: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= HALF_LIFE_S_MAX:
        raise Invalid.of(field, f"must be a whole number of seconds, from 1 to {HALF_LIFE_S_MAX}")
    return value
