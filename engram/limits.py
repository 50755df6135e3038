"""Every limit on what a request may ask for, by name."""

from __future__ import annotations

from typing import Final

SPACE_ID_CHARACTERS_MAX: Final = 64
MEMORY_ID_CHARACTERS_MAX: Final = 128
MEMORIES_PER_REQUEST_MAX: Final = 1_000
CONTENT_BYTES_MAX: Final = 1 << 20
BODY_BYTES_MAX: Final = 16 << 20
TAGS_PER_MEMORY_MAX: Final = 64
TAG_CHARACTERS_MAX: Final = 128
SOURCE_CHARACTERS_MAX: Final = 256
METADATA_BYTES_MAX: Final = 64 << 10
METADATA_DEPTH_MAX: Final = 16
DIMENSIONS_MAX: Final = 4_096
QUERY_BYTES_MAX: Final = 64 << 10
RECALL_LIMIT_MAX: Final = 1_000
RECALL_MEMORY_IDS_MAX: Final = 100
RECALLED_IDS_RECORDED_MAX: Final = 50
FILTER_VALUES_MAX: Final = 1_000
LIST_LIMIT_MAX: Final = 1_000
LIST_LIMIT_DEFAULT: Final = 50
DELETE_GRACE_S: Final = 7 * 24 * 3_600.0
"""How long a deleted space can be restored for certain, unless `engram.open` is told otherwise."""
