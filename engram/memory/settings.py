"""What can be set about a space, all of it together. Pure.

A setting is a value of its own module, with a textual form, a `check_…` that takes either, and a
default that holds until something else is set. Here they are gathered: the event
`space.configured` holds all of them, and a change of some leaves the others as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypedDict, cast

import msgspec
import numpy as np
import numpy.typing as npt

from engram.errors import Invalid
from engram.memory.decay import DECAY_DEFAULT, Decay, check_decay
from engram.memory.forgetting import FORGET_NOTHING, Forgetting
from engram.memory.policies import check_forgetting
from engram.memory.quotas import NO_QUOTAS, Quotas, QuotasGiven, check_quotas
from engram.memory.retention import KEEP_ALL, Retention, check_retention
from engram.memory.rhythm import OFF, Rhythm, check_rhythm


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a space. Their order is part of the format: new ones stand at the end."""

    retention: Retention = KEEP_ALL
    decay: Decay = DECAY_DEFAULT
    forgetting: Forgetting = FORGET_NOTHING
    consolidation: Rhythm = OFF
    quotas: Quotas = NO_QUOTAS


class SettingsGiven(TypedDict, total=False):
    """Settings as callers name them, as values or in their textual forms."""

    retention: Retention | str
    decay: Decay | str
    forgetting: Forgetting | str
    consolidation: Rhythm | str
    quotas: QuotasGiven


SETTINGS: Final = Settings.__struct_fields__
_CHECKS: Final[Mapping[str, Callable[[str, object], Any]]] = {
    "retention": check_retention,
    "decay": check_decay,
    "forgetting": check_forgetting,
    "consolidation": check_rhythm,
    "quotas": check_quotas,
}


def checked_settings(given: SettingsGiven) -> dict[str, Any]:
    """The settings that were given, checked, by name.

    Raises :class:`engram.errors.Invalid`, also if there are none, and TypeError for another name.
    """
    unknown = given.keys() - _CHECKS.keys()
    if unknown:
        raise TypeError(f"there is no setting {min(unknown)!r}; there are {', '.join(SETTINGS)}")
    if not given:
        raise Invalid(f"nothing to configure was given; name at least one of {', '.join(SETTINGS)}")
    return {name: _CHECKS[name](name, value) for name, value in given.items()}


def checked_setting(field: str, name: str, value: object) -> Any:
    """One setting of that name; `field` leads to it in errors."""
    return _CHECKS[name](field, value)


def given_settings(**options: str | None) -> SettingsGiven:
    """What options of a command line give, where None is what was left out, checked.

    Raises as :func:`checked_settings`, leading to the option.
    """
    given = {name: text for name, text in options.items() if text is not None}
    if not given:
        named = ", ".join(map(_option, options))
        raise Invalid(f"nothing to configure was given; name at least one of {named}")
    checked = {name: _CHECKS[name](_option(name), text) for name, text in given.items()}
    return cast("SettingsGiven", checked)


def _option(name: str) -> str:
    return "--quota" if name == "quotas" else f"--{name}"


def settings_in(holder: Settings) -> Settings:
    """The settings alone of something that has them, as the event does."""
    return Settings(**{name: getattr(holder, name) for name in SETTINGS})


def settings_column(settings: Settings) -> npt.NDArray[np.uint8]:
    """All but the retention, which has a column of its own, for a checkpoint."""
    said = {name: getattr(settings, name) for name in SETTINGS if name != "retention"}
    return np.frombuffer(msgspec.msgpack.encode(said), np.uint8)


def settings_of(retention: Retention, column: npt.NDArray[np.uint8] | None) -> Settings:
    """What a checkpoint holds; of before there were others than the retention, they are None.

    Raises :class:`ValueError` for a column that holds no settings.
    """
    if column is None:
        return Settings(retention=retention)
    try:
        others = msgspec.msgpack.decode(column.tobytes(), type=Settings)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"its settings cannot be read: {error}") from error
    return msgspec.structs.replace(others, retention=retention)
