"""JSON schemas of bodies and answers, made from the structs they are decoded into and encoded from.

A struct knows shapes. The limits on values, which the engine checks behind the decoding, stand in
:data:`LIMITS` by struct and field.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from engram import limits
from engram.memory.decay import EXPONENT_MAX, EXPONENT_MIN, HALF_LIFE_S_MAX, WEIGHT_MAX
from engram.memory.durations import DURATION_S_MAX
from engram.memory.forgetting import CAPACITY_MAX, LEVEL_MAX
from engram.memory.kinds import KINDS
from engram.memory.quotas import QUOTA_MAX
from engram.memory.retention import AGE_S_MAX, POSITIONS_MAX
from engram.memory.rhythm import AFTER_MAX
from engram.server.openapi.parameters import MEMORY_ID, POSITION, SPACE_ID, Schema

REF: Final = "#/components/schemas/{name}"


def _text(characters_max: int) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": characters_max}


def _whole(least: int, most: int) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most}


def _number(least: float, most: float) -> Schema:
    return {"type": "number", "minimum": least, "maximum": most}


def _list(most: int, items: Schema | None = None) -> Schema:
    return {"type": "array", "maxItems": most, **({"items": items} if items else {})}


_SHARE: Final = _number(0, 1)
_SOURCE: Final = _text(limits.SOURCE_CHARACTERS_MAX)
_RELATION: Final = _text(limits.RELATION_CHARACTERS_MAX)
_TAGS: Final = _list(limits.TAGS_PER_MEMORY_MAX, _text(limits.TAG_CHARACTERS_MAX))
_CONTENT: Final = {
    **_text(limits.CONTENT_BYTES_MAX),
    "description": f"At most {limits.CONTENT_BYTES_MAX} bytes in UTF-8, and not only spaces.",
}
_QUERY: Final = {
    **_text(limits.QUERY_BYTES_MAX),
    "description": f"At most {limits.QUERY_BYTES_MAX} bytes in UTF-8, and not only spaces.",
}
_METADATA: Final = {
    "type": "object",
    "description": (
        f"At most {limits.METADATA_BYTES_MAX} bytes as JSON, "
        f"{limits.METADATA_DEPTH_MAX} levels deep."
    ),
}
_CONDITIONS: Final = {
    "type": "object",
    "description": (
        "By key: a value to be equal to, or an object of the operators `$in $gt $gte $lt $lte $ne "
        "$exists`."
    ),
}
_VECTOR: Final = {
    "type": "array",
    "minItems": 1,
    "maxItems": limits.DIMENSIONS_MAX,
    "description": "As many numbers as the space has dimensions.",
}
_MEMORY: Final[Mapping[str, Schema]] = {
    "content": _CONTENT,
    "tags": _TAGS,
    "metadata": _METADATA,
    "confidence": _SHARE,
    "source": _SOURCE,
    "embedding": _VECTOR,
}
_FILTER: Final[Mapping[str, Schema]] = {"source": _SOURCE, "metadata": _CONDITIONS}

LIMITS: Final[Mapping[str, Mapping[str, Schema]]] = {
    "NewSpaceBody": {"memory_space_id": SPACE_ID},
    "ForkBody": {"memory_space_id": SPACE_ID, "as_of": POSITION},
    "EmbeddingBody": {
        "model": {"type": "string", "description": "`caller`: vectors come with the memories."},
        "dimensions": _whole(1, limits.DIMENSIONS_MAX),
    },
    "RetentionBody": {"positions": _whole(1, POSITIONS_MAX), "age_s": _whole(1, AGE_S_MAX)},
    "DecayBody": {
        "exponent": _number(EXPONENT_MIN, EXPONENT_MAX),
        "half_life_s": _whole(1, HALF_LIFE_S_MAX),
        "weight": _number(0, WEIGHT_MAX),
    },
    "ForgettingBody": {
        "capacity": _whole(1, CAPACITY_MAX),
        "threshold": _number(-LEVEL_MAX, LEVEL_MAX),
        "grace_s": _whole(0, DURATION_S_MAX),
        "spare_kinds": {"type": "array", "items": {"type": "string", "enum": list(KINDS)}},
        "spare_tags": _TAGS,
    },
    "RhythmBody": {"after": _whole(1, AFTER_MAX), "every_s": _whole(1, DURATION_S_MAX)},
    "QuotasBody": {
        "memories": _whole(0, QUOTA_MAX),
        "bytes": _whole(0, QUOTA_MAX),
        "writes_per_second": _whole(1, QUOTA_MAX),
        "recalls_per_second": _whole(1, QUOTA_MAX),
        "subscribers": _whole(0, QUOTA_MAX),
    },
    "MemoryBody": {**_MEMORY, "id": MEMORY_ID},
    "BatchBody": {"memories": {"minItems": 1, **_list(limits.MEMORIES_PER_REQUEST_MAX)}},
    "ChangesBody": _MEMORY,
    "LinkBody": {
        "source": MEMORY_ID,
        "target": MEMORY_ID,
        "weight": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "relation": _RELATION,
    },
    "FilterBody": {
        **_FILTER,
        "tags_all": _TAGS,
        "tags_any": _TAGS,
    },
    "KnownBody": {**_FILTER, "content": _QUERY, "tags": _TAGS},
    "RecallBody": {
        "query": _QUERY,
        "embedding": _VECTOR,
        "memory_ids": _list(limits.RECALL_MEMORY_IDS_MAX, MEMORY_ID),
        "limit": _whole(1, limits.RECALL_LIMIT_MAX),
        "min_confidence": _SHARE,
        "as_of": POSITION,
    },
    "CompleteBody": {
        "query": _QUERY,
        "embedding": _VECTOR,
        "beta": _number(limits.BETA_MIN, limits.BETA_MAX),
        "limit": _whole(1, limits.RECALL_LIMIT_MAX),
    },
    "Spread": {
        "max_hops": _whole(0, limits.SPREAD_HOPS_MAX),
        "decay": _SHARE,
        "threshold": _number(limits.SPREAD_THRESHOLD_MIN, 1),
    },
}


def component_schemas(types: Iterable[type]) -> dict[str, Schema]:
    """The schemas of these structs, and of all that they hold, by name."""
    _, components = msgspec.json.schema_components(
        types, schema_hook=_schema_of_array, ref_template=REF
    )
    found = dict(components)
    for name, schema in found.items():
        schema.pop("title", None)
        if "description" in schema:
            schema["description"] = _in_markdown(schema["description"])
        for field, limit in LIMITS.get(name, {}).items():
            schema["properties"][field] = _narrowed(schema["properties"][field], limit)
    return {name: found[name] for name in sorted(found)}


def _schema_of_array(kind: type) -> Schema:
    """numpy's arrays, which are vectors wherever they are shown."""
    return {"type": "array", "items": {"type": "number"}}


def _narrowed(schema: Schema, limit: Schema) -> Schema:
    """A field's schema with its limit, in the alternative that it is about."""
    narrowed = copy.deepcopy(schema)
    alternatives = narrowed.get("anyOf", [narrowed])
    (about,) = [item for item in alternatives if item.get("type") == limit["type"]]
    for key, value in limit.items():
        if key == "items":
            about["items"] = {**about["items"], **value}
        else:
            about[key] = value
    return narrowed


_ROLE: Final = re.compile(r":\w+:`~?([^`]*)`")


def _in_markdown(docstring: str) -> str:
    return _ROLE.sub(r"`\1`", inspect.cleandoc(docstring)).replace("\n", " ")


def reference(kind: type) -> dict[str, Any]:
    return {"$ref": REF.format(name=kind.__name__)}
