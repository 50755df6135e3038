"""Values of the types that are stored, drawn from a fuzzer's choices."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import atheris
import msgspec
from msgspec import inspect

INT_BITS: Final = (1, 8, 16, 32, 63)
ITEMS_MAX: Final = 3
TEXT_CHARS_MAX: Final = 12
DEPTH_MAX: Final = 3


def draw(choices: atheris.FuzzedDataProvider, type_: Any) -> Any:
    """Some value of a type: a struct of structs, texts, numbers, tuples and mappings of these."""
    return _draw(choices, _info(type_), 0)


@cache
def _info(type_: Any) -> inspect.Type:
    return inspect.type_info(type_)


def _draw(choices: atheris.FuzzedDataProvider, info: inspect.Type, depth: int) -> Any:
    match info:
        case inspect.StructType(cls=cls, fields=fields):
            drawn = {f.name: _draw(choices, f.type, depth) for f in fields}
            try:
                return cls(**drawn)
            except ValueError:  # not these together: what can be left out is
                return cls(**{f.name: drawn[f.name] for f in fields if f.required})
        case inspect.UnionType(types=types):
            return _draw(choices, types[choices.ConsumeIntInRange(0, len(types) - 1)], depth)
        case inspect.VarTupleType(item_type=inner) | inspect.ListType(item_type=inner):
            items = [_draw(choices, inner, depth + 1) for _ in _some(choices, depth)]
            return tuple(items) if isinstance(info, inspect.VarTupleType) else items
        case inspect.TupleType(item_types=types):
            return tuple(_draw(choices, inner, depth + 1) for inner in types)
        case inspect.DictType(key_type=key, value_type=inner):
            return {
                _draw(choices, key, depth): _draw(choices, inner, depth + 1)
                for _ in _some(choices, depth)
            }
        case inspect.LiteralType(values=values):
            return values[choices.ConsumeIntInRange(0, len(values) - 1)]
        case inspect.IntType(ge=least, le=most):
            bits = INT_BITS[choices.ConsumeIntInRange(0, len(INT_BITS) - 1)]
            return _within(choices.ConsumeIntInRange(-(1 << bits), (1 << bits) - 1), least, most)
        case inspect.FloatType(ge=least, le=most):
            return _within(choices.ConsumeRegularFloat(), least, most)
        case inspect.StrType():
            return choices.ConsumeUnicodeNoSurrogates(choices.ConsumeIntInRange(0, TEXT_CHARS_MAX))
        case inspect.BytesType():
            return bytes(choices.ConsumeBytes(choices.ConsumeIntInRange(0, TEXT_CHARS_MAX)))
        case inspect.BoolType():
            return choices.ConsumeBool()
        case inspect.NoneType():
            return None
        case inspect.AnyType():
            return _draw(choices, _JSON if depth < DEPTH_MAX else _SCALAR, depth + 1)
    raise TypeError(f"no values of {info} are known here")


def _within(number: float, least: float | None, most: float | None) -> float:
    number = number if least is None else max(number, least)
    return number if most is None else min(number, most)


def _some(choices: atheris.FuzzedDataProvider, depth: int) -> range:
    return range(choices.ConsumeIntInRange(0, ITEMS_MAX) if depth <= DEPTH_MAX else 0)


_SCALAR: Final = inspect.type_info(None | bool | int | float | str)
_JSON: Final = inspect.type_info(None | bool | int | float | str | list[Any] | dict[str, Any])


def same(one: msgspec.Struct, other: msgspec.Struct) -> bool:
    """Whether two values are the same to the last type: 1, 1.0 and True are equal, but not same."""
    return repr(one) == repr(other)
