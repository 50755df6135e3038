"""What may become a memory. Pure checks; every refusal names its field and says what is allowed.

Surfaces check the shape of a request, this module checks its meaning, so that no surface can let
in what another refuses.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from engram import limits
from engram.errors import EmbedderMismatch, Invalid, TooLarge
from engram.memory.model import (
    KINDS,
    MODES,
    ON_CONFLICT,
    EmbeddingSpec,
    Kind,
    Metadata,
    OnConflict,
    Spread,
    Vector,
)

CALLER: str = "caller"
"""The embedding model of a space whose vectors come with its memories."""

_INT_MIN, _INT_MAX = -(1 << 63), (1 << 64) - 1


def check_memory_id(field: str, value: object) -> str:
    """A caller's memory id, or a refusal."""
    text = check_text(field, value, limits.MEMORY_ID_CHARACTERS_MAX)
    if text in {".", ".."} or "/" in text or "\\" in text or text != text.strip():
        raise Invalid.of(
            field, "an id holds no '/' or '\\', has no outer spaces, and is not '.' or '..'"
        )
    return text


def check_text(field: str, value: object, characters_max: int) -> str:
    """A short printable string: ids, tags, sources."""
    text = _plain(field, value)
    if not 1 <= len(text) <= characters_max:
        raise Invalid.of(field, f"must have 1 to {characters_max} characters, not {len(text)}")
    if not text.isprintable():
        bad = next(c for c in text if not c.isprintable())
        name = unicodedata.name(bad, f"U+{ord(bad):04X}")
        raise Invalid.of(field, f"holds a character that cannot be printed ({name})")
    return text


def check_content(field: str, value: object) -> str:
    text = _plain(field, value)
    if not text.strip():
        raise Invalid.of(field, "is empty; a memory needs something to remember")
    _check_bytes(field, text, limits.CONTENT_BYTES_MAX, "Split it into several memories")
    return text


def check_query(field: str, value: object) -> str:
    text = _plain(field, value)
    if not text.strip():
        raise Invalid.of(field, "is empty; ask something, or leave it out and give another cue")
    _check_bytes(field, text, limits.QUERY_BYTES_MAX, "Shorten it")
    return text


def _plain(field: str, value: object) -> str:
    """The characters of a string. Its subclasses (enums, numpy's) cannot be written to a log."""
    if not isinstance(value, str):
        raise Invalid.of(field, f"must be a string, not {type(value).__name__}")
    return str.__str__(value)


def _check_bytes(field: str, value: str, bytes_max: int, advice: str) -> None:
    size = _size(field, value)
    if size > bytes_max:
        raise TooLarge(f"{field} has {size} bytes; at most {bytes_max} are allowed. {advice}")


def _size(field: str, value: str) -> int:
    """Bytes in UTF-8, in which not every string can be written."""
    try:
        return len(value.encode())
    except UnicodeEncodeError as error:
        raise Invalid.of(
            field, f"is not Unicode text: a lone surrogate stands at character {error.start}"
        ) from None


def items_of(field: str, value: object, what: str) -> Iterable[Any]:
    """`value` if it can be iterated over as `what`; text and mappings are meant as one thing."""
    try:
        if isinstance(value, str | bytes | Mapping):
            raise TypeError
        return iter(value)  # type: ignore[call-overload,no-any-return]  # that is being tried
    except TypeError:  # numpy's arrays without dimensions only seem iterable
        raise Invalid.of(field, f"must be {what}, not {type(value).__name__}") from None


def check_tags(field: str, value: object) -> tuple[str, ...]:
    """Tags in the order given, duplicates dropped."""
    tags = [
        check_text(f"{field}[{i}]", tag, limits.TAG_CHARACTERS_MAX)
        for i, tag in enumerate(items_of(field, value, "a list of strings"))
    ]
    if len(tags) > limits.TAGS_PER_MEMORY_MAX:
        raise Invalid.of(field, f"at most {limits.TAGS_PER_MEMORY_MAX} tags are allowed")
    return tuple(dict.fromkeys(tags))


def check_kind(field: str, value: object) -> Kind:
    for kind in KINDS:
        if isinstance(value, str) and value == kind:
            return kind
    raise Invalid.of(field, f"must be one of {', '.join(KINDS)}")


def check_on_conflict(field: str, value: object) -> OnConflict:
    for choice in ON_CONFLICT:
        if isinstance(value, str) and value == choice:
            return choice
    raise Invalid.of(field, f"must be one of {', '.join(ON_CONFLICT)}")


def check_source(field: str, value: object) -> str | None:
    return None if value is None else check_text(field, value, limits.SOURCE_CHARACTERS_MAX)


def check_relation(field: str, value: object) -> str:
    return check_text(field, value, limits.RELATION_CHARACTERS_MAX)


def check_weight(field: str, value: object) -> float:
    """A weight of a link. NaN lies nowhere."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Invalid.of(field, "must be a number above 0 and up to 1")
    if not 0.0 < value <= 1.0:
        raise Invalid.of(field, "must lie above 0, and be at most 1")
    return float(value)


def check_flag(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise Invalid.of(field, f"must be True or False, not {type(value).__name__}")
    return value


def check_confidence(field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Invalid.of(field, "must be a number from 0 to 1")
    if not 0.0 <= value <= 1.0:
        raise Invalid.of(field, "must lie between 0 and 1")
    return float(value)


def check_mode(field: str, value: object) -> None:
    if value is not None and not (isinstance(value, str) and value in MODES):
        raise Invalid.of(field, f"must be one of {', '.join(MODES)}, or left out")


def check_spread(field: str, value: object) -> Spread | None:
    """How far activation is to go, from 0 hops on."""
    if value is None:
        return None
    if not isinstance(value, Spread):
        raise Invalid.of(field, f"must be a Spread, not {type(value).__name__}")
    hops, most = value.max_hops, limits.SPREAD_HOPS_MAX
    if isinstance(hops, bool) or not isinstance(hops, int) or not 0 <= hops <= most:
        raise Invalid.of(f"{field}.max_hops", f"must be a whole number between 0 and {most}")
    check_confidence(f"{field}.decay", value.decay)
    threshold = check_confidence(f"{field}.threshold", value.threshold)
    if threshold < limits.SPREAD_THRESHOLD_MIN:
        least = f"{limits.SPREAD_THRESHOLD_MIN:f}".rstrip("0")
        raise Invalid.of(f"{field}.threshold", f"must be at least {least}")
    return value


def check_time(field: str, value: object) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise Invalid.of(field, f"must be a datetime, not {type(value).__name__}")
    if value.tzinfo is None or value.utcoffset() is None:
        raise Invalid.of(field, "must say its time zone, for example 2026-05-01T09:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise Invalid.of(field, "lies outside of the years 1 to 9999 in UTC") from None


def check_as_of(field: str, value: object) -> int | datetime | None:
    """A position, or a time with its zone; None for now."""
    if value is None or isinstance(value, datetime):
        return check_time(field, value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise Invalid.of(
            field,
            "must be a position, which is a whole number from 1 on, or a time with its zone, for "
            "example 2026-05-01T09:00:00Z",
        )
    return int(value)


def check_metadata(field: str, value: object) -> Metadata:
    """A JSON object: string keys, JSON values, bounded in size and depth."""
    if not isinstance(value, Mapping):
        raise Invalid.of(field, f"must be a JSON object, not {type(value).__name__}")
    checked: Metadata = _check_json(field, value, limits.METADATA_DEPTH_MAX)
    size = len(msgspec.json.encode(checked))
    if size > limits.METADATA_BYTES_MAX:
        raise TooLarge(
            f"{field} as a whole has {size} bytes as JSON; at most {limits.METADATA_BYTES_MAX} "
            "are allowed. Shorten it"
        )
    return checked


def _check_json(field: str, value: object, depth: int) -> Any:
    if depth < 0:
        raise Invalid.of(field, f"is nested deeper than {limits.METADATA_DEPTH_MAX} levels")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        _size(field, value)
        return _plain(field, value)
    if isinstance(value, int):
        if not _INT_MIN <= value <= _INT_MAX:
            raise Invalid.of(field, "is an integer of more than 64 bits")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Invalid.of(field, "is NaN or infinite, which JSON cannot hold")
        return float(value)
    if isinstance(value, Mapping):
        return {
            _check_key(field, key): _check_json(f"{field}.{key}", item, depth - 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_check_json(f"{field}[{i}]", item, depth - 1) for i, item in enumerate(value)]
    raise Invalid.of(field, f"{type(value).__name__} is not a JSON type")


def _check_key(field: str, key: object) -> str:
    if not isinstance(key, str):
        raise Invalid.of(field, f"keys must be strings, not {type(key).__name__}")
    _size(field, key)
    return _plain(field, key)


def check_vector(field: str, value: object, spec: EmbeddingSpec) -> Vector:
    """A caller's embedding as float32, shape (dimensions,).

    Raises :class:`engram.errors.EmbedderMismatch` in a space that makes its own vectors.
    """
    if spec.model != CALLER:
        raise EmbedderMismatch(
            f"{field}: this space makes its own vectors with {spec.model}. Leave the embedding "
            'out, or create a space with embedding {"model": "caller", "dimensions": N}'
        )
    return check_cue_vector(field, value, spec.dimensions)


def check_vectors_made_by(
    fields: Sequence[str], vectors: Sequence[object], made_by: EmbeddingSpec, spec: EmbeddingSpec
) -> Vector:
    """Vectors that what a space is pinned to made before, float32 (items, dimensions).

    Raises :class:`engram.errors.EmbedderMismatch` if something else made them, and `Invalid`.
    """
    if check_embedding_spec(made_by) != spec:
        raise EmbedderMismatch(
            f"embedded_by: the vectors are of {made_by.model} of {made_by.dimensions} dimensions; "
            f"this space is pinned to {spec.model} of {spec.dimensions}. Leave them out"
        )
    for field, vector in zip(fields, vectors, strict=True):
        if vector is None:
            raise Invalid.of(f"{field}embedding", "is missing; embedded_by says who made it")
    return np.stack(
        [
            check_cue_vector(f"{field}embedding", vector, spec.dimensions)
            for field, vector in zip(fields, vectors, strict=True)
        ]
    )


def check_cue_vector(field: str, value: object, dimensions: int) -> Vector:
    """A vector of finite numbers with a direction, as float32, shape (dimensions,)."""
    if isinstance(value, str | bytes | bytearray | memoryview) or (
        isinstance(value, list | tuple) and any(isinstance(x, bool | str) for x in value)
    ):
        raise Invalid.of(field, "must be a list of numbers")
    try:
        given = np.asarray(value)
    except ValueError:  # rows of different lengths
        raise Invalid.of(field, "must be a list of numbers") from None
    if given.dtype.kind not in "iuf":
        raise Invalid.of(field, "must be a list of numbers")
    wide = given.astype(np.float64)
    if wide.ndim != 1 or len(wide) != dimensions:
        shape = " by ".join(map(str, wide.shape)) or "no"
        raise Invalid.of(field, f"must be a list of {dimensions} numbers; it has {shape}")
    if not np.isfinite(wide).all():
        raise Invalid.of(field, "holds NaN or an infinity")
    norm = float(np.linalg.norm(wide / max(np.abs(wide).max(), 1e-300))) * np.abs(wide).max()
    if not 1e-18 < norm < 1e18:
        raise Invalid.of(
            field, f"has length {norm:g}; a vector needs a direction that float32 can hold"
        )
    return wide.astype(np.float32)


def check_partial_vector(
    field: str, value: object, dimensions: int
) -> tuple[Vector, npt.NDArray[np.bool_]]:
    """A vector of which some components may not be known: None, or NaN.

    Returns it with 0 in their places, float32 (dimensions,), and which are known, bool
    (dimensions,). What is known has to have a direction.
    """
    filled: object = value
    if isinstance(value, list | tuple):
        gaps = [x is None or (isinstance(x, float | np.floating) and x != x) for x in value]
        known = ~np.array(gaps, np.bool_)
        filled = [0.0 if gap else x for x, gap in zip(value, gaps, strict=True)]
    elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
        known = ~np.isnan(value)
        filled = np.where(known, value, 0.0)
    else:
        known = np.ones(dimensions, np.bool_)
    if known.shape == (dimensions,) and not known.any():
        raise Invalid.of(field, "has no component that is known; leave it out")
    return check_cue_vector(field, filled, dimensions), known


def check_embedding_spec(spec: EmbeddingSpec) -> EmbeddingSpec:
    """Bounds on a space's dimensions; whether the model is known is the embedders' business."""
    if not isinstance(spec, EmbeddingSpec):
        raise Invalid.of("embedding", f"must be an EmbeddingSpec, not {type(spec).__name__}")
    if not isinstance(spec.model, str):
        raise Invalid.of("embedding.model", "must be a string")
    if isinstance(spec.dimensions, bool) or not isinstance(spec.dimensions, int):
        raise Invalid.of("embedding.dimensions", "must be a whole number")
    if not 1 <= spec.dimensions <= limits.DIMENSIONS_MAX:
        raise Invalid.of("embedding.dimensions", f"must lie between 1 and {limits.DIMENSIONS_MAX}")
    return spec
