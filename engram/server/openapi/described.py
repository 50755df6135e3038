"""What each operation is for, takes and answers, beside its entry in the tables of routes.

By method and path, as the tables have it. An operation that is served and not described here, or
described and not served, makes no document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from engram import errors
from engram.memory.beliefs import Consolidation
from engram.memory.completion import Completion
from engram.memory.forgetting import ForgettingReport
from engram.memory.model import (
    Compaction,
    DeletedSpace,
    Forgotten,
    ForgottenMatching,
    Link,
    LinksPage,
    Memory,
    Page,
    Recall,
    Remembered,
    SpaceInfo,
    Unlinked,
)
from engram.server import wire
from engram.server.openapi import answers
from engram.server.settings_bodies import SettingsBody

Struct = type[msgspec.Struct]
Refusals = tuple[type[errors.EngramError], ...]

JSON: Final = "application/json"

EVERY: Final[Refusals] = (
    errors.Malformed,
    errors.SpaceInvalid,
    errors.SpaceConflict,
    errors.Unauthenticated,
    errors.Forbidden,
    errors.RequestTimeout,
    errors.TooLarge,
    errors.EngramError,
    errors.Unavailable,
    errors.KeysDamaged,
)
"""What any request may be refused with."""
IN_SPACE: Final[Refusals] = (errors.SpaceNotFound, errors.SpaceLocked, errors.SpaceDamaged)
WRITING: Final[Refusals] = (
    errors.OutcomeUnknown,
    errors.DiskFull,
    errors.QuotaExceeded,
    errors.RateLimited,
)
WITH_BODY: Final[Refusals] = (errors.UnsupportedMediaType, errors.Invalid)
ON_MEMORY: Final[Refusals] = (errors.MemoryNotFound, errors.Invalid)
AS_OF: Final[Refusals] = (errors.HistoryGone, errors.PositionBeyondEnd)
EMBEDDING: Final[Refusals] = (errors.EmbedderMismatch, errors.EmbedderUnavailable)


class Described(NamedTuple):
    """One operation. `answers` by status; `bodies`: one of them; `also`: what it refuses with
    beyond :data:`EVERY`, and for those inside a space :data:`IN_SPACE`.
    """

    name: str
    tag: str
    summary: str
    answers: Mapping[int, Struct | tuple[Struct, ...] | str]
    """What is encoded; of several one; text: its media type, where that is not JSON."""
    bodies: tuple[Struct, ...] = ()
    body_required: bool = True
    also: Refusals = ()
    example: Any = None
    description: str = ""
    media_types: tuple[str, ...] = (JSON,)
    """Of the body, where it is no JSON and so has no struct."""
    in_space: bool = True


_SSE: Final = "text/event-stream"
_BUNDLE: Final = "application/vnd.engram.bundle"
_FOLLOW: Final = (
    "History after a position, then what comes, without a seam: blocks of `id`, `event` (the type) "
    "and `data`, an `Event` as JSON. `Last-Event-ID` beats `after`. A block that has an id and no "
    "data says how far the stream has come."
)
_AS_SPACE: Final = (errors.SpaceDeleted,)

DESCRIBED: Final[Mapping[tuple[str, str], Described]] = {
    ("POST", "/memories"): Described(
        "remember",
        "memories",
        "Remember one memory, or several: all of them or none",
        {201: Remembered},
        (wire.MemoryBody, wire.BatchBody),
        also=(*WITH_BODY, *WRITING, *EMBEDDING, errors.MemoryExists),
        example={
            "id": "deploy-key",
            "content": "The deploy key is rotated every Monday",
            "tags": ["ops"],
            "metadata": {"agent": "planner"},
        },
        description="Durable when it is answered.",
    ),
    ("GET", "/memories"): Described(
        "list", "memories", "List memories by ascending position", {200: Page}, also=AS_OF
    ),
    ("GET", "/memories/{id}"): Described(
        "get", "memories", "One memory", {200: Memory}, also=(*ON_MEMORY, *AS_OF)
    ),
    ("PATCH", "/memories/{id}"): Described(
        "revise",
        "memories",
        "Revise a memory: given fields replace whole, null clears",
        {200: Memory},
        (wire.ChangesBody,),
        also=(*WITH_BODY, *WRITING, *EMBEDDING, *ON_MEMORY),
        example={"tags": ["ops", "weekly"], "source": None},
    ),
    ("DELETE", "/memories/{id}"): Described(
        "forget",
        "memories",
        "Forget a memory, or purge it for good",
        {200: (Forgotten, answers.MemoryPurged)},
        also=(*WRITING, *ON_MEMORY),
    ),
    ("DELETE", "/memories"): Described(
        "forget_matching",
        "memories",
        "Forget all memories that match, or purge them for good",
        {200: (ForgottenMatching, answers.MatchingPurged)},
        (wire.MatchingBody,),
        also=(*WITH_BODY, *WRITING),
        example={"filter": {"tags_all": ["obsolete"]}},
    ),
    ("POST", "/memories/{id}/restore"): Described(
        "restore",
        "memories",
        "Undo the forgetting of a memory",
        {200: Memory},
        also=(*WRITING, *ON_MEMORY, errors.MemoryExists),
    ),
    ("GET", "/memories/{id}/history"): Described(
        "history",
        "memories",
        "All that happened to a memory, oldest first",
        {200: answers.MemoryHistory},
        also=ON_MEMORY,
    ),
    ("POST", "/consolidate"): Described(
        "consolidate",
        "beliefs",
        "Form beliefs of what episodes have in common",
        {200: Consolidation},
        (wire.ConsolidateBody,),
        body_required=False,
        also=(*WITH_BODY, *WRITING, errors.EmbedderMismatch, errors.EmbedderUnavailable),
        example={"dry_run": True},
    ),
    ("POST", "/forgetting"): Described(
        "apply_forgetting",
        "memories",
        "Forget what the space's policy says, or tell what that would be",
        {200: ForgettingReport},
        (wire.ApplyBody,),
        body_required=False,
        also=(*WITH_BODY, *WRITING),
        example={"dry_run": True},
    ),
    ("POST", "/compact"): Described(
        "compact",
        "spaces",
        "Write a checkpoint and let go of history beyond the retention",
        {200: Compaction},
        also=WRITING,
    ),
    ("POST", "/links"): Described(
        "link",
        "links",
        "Associate two memories",
        {201: Link},
        (wire.LinkBody,),
        also=(*WITH_BODY, *WRITING, errors.MemoryNotFound),
        example={"source": "rain", "target": "match", "weight": 0.8, "relation": "causes"},
    ),
    ("GET", "/links"): Described(
        "links",
        "links",
        "The links that begin or end at a memory",
        {200: LinksPage},
        also=(errors.MemoryNotFound,),
    ),
    ("DELETE", "/links/{source}/{target}"): Described(
        "unlink",
        "links",
        "Remove a link",
        {200: Unlinked},
        also=(*WRITING, *ON_MEMORY, errors.LinkNotFound),
    ),
    ("POST", "/recall"): Described(
        "recall",
        "recall",
        "Recall what fits a cue, best first",
        {200: Recall},
        (wire.RecallBody,),
        also=(
            *WITH_BODY,
            *EMBEDDING,
            errors.MemoryNotFound,
            errors.RateLimited,
            *AS_OF,
        ),
        example={"query": "when is the deploy key rotated", "limit": 5, "explain": True},
        description="At least one of `query`, `embedding` and `memory_ids` is the cue.",
    ),
    ("POST", "/complete"): Described(
        "complete",
        "recall",
        "Fill in a partial cue",
        {200: Completion},
        (wire.CompleteBody,),
        also=(*WITH_BODY, *EMBEDDING, errors.RateLimited),
        example={"query": "the deploy key is rotated every", "known": {"tags": ["ops"]}},
    ),
    ("POST", "/reopen"): Described(
        "reopen", "spaces", "Recover a space after a failed sync", {200: SpaceInfo}, also=WRITING
    ),
    ("POST", "/spaces"): Described(
        "create_space",
        "spaces",
        "Make a space; without an id one is made up",
        {201: SpaceInfo},
        (wire.NewSpaceBody,),
        body_required=False,
        also=(*WITH_BODY, *WRITING, *EMBEDDING, errors.SpaceExists, errors.SpaceDeleted),
        example={"memory_space_id": "planner"},
        in_space=False,
    ),
    ("GET", "/spaces"): Described(
        "list_spaces",
        "spaces",
        "List spaces in order of their ids",
        {200: answers.SpacesPage},
        in_space=False,
    ),
    ("PUT", "/spaces/{space}"): Described(
        "ensure_space",
        "spaces",
        "Make a space unless it is there",
        {200: SpaceInfo, 201: SpaceInfo},
        (wire.NewSpaceBody,),
        body_required=False,
        also=(
            *WITH_BODY,
            *WRITING,
            *EMBEDDING,
            errors.SpaceExists,
            errors.SpaceDeleted,
            errors.SpaceLocked,
            errors.SpaceDamaged,
        ),
        example={"embedding": {"model": "caller", "dimensions": 4}},
        in_space=False,
    ),
    ("GET", "/spaces/{space}"): Described("show_space", "spaces", "One space", {200: SpaceInfo}),
    ("PATCH", "/spaces/{space}"): Described(
        "configure_space",
        "spaces",
        "Change the settings of a space; what is left out stays",
        {200: SpaceInfo},
        (SettingsBody,),
        also=(*WITH_BODY, *WRITING),
        example={"retention": {"positions": 100_000}, "decay": "power:0.5"},
    ),
    ("DELETE", "/spaces/{space}"): Described(
        "delete_space",
        "spaces",
        "Delete a space; it can be restored for a while",
        {200: DeletedSpace},
        also=(*WRITING, *_AS_SPACE),
    ),
    ("POST", "/spaces/{space}/restore"): Described(
        "restore_space",
        "spaces",
        "Undo the deletion of a space",
        {200: SpaceInfo},
        also=(*WRITING, errors.SpaceExists, *_AS_SPACE),
    ),
    ("POST", "/spaces/{space}/purge"): Described(
        "purge_space",
        "spaces",
        "Remove a deleted space for good",
        {200: answers.SpacePurged},
        also=(*WRITING, errors.SpaceExists, *_AS_SPACE),
    ),
    ("GET", "/export"): Described(
        "export", "bundles", "The space as a bundle", {200: _BUNDLE}, also=WRITING
    ),
    ("POST", "/spaces/{space}/import"): Described(
        "import",
        "bundles",
        "Make a space from a bundle",
        {201: answers.MadeSpace},
        also=(*WITH_BODY, *WRITING, *_AS_SPACE, *EMBEDDING, errors.SpaceExists),
        media_types=(_BUNDLE, "application/octet-stream"),
        in_space=False,
    ),
    ("POST", "/fork"): Described(
        "fork",
        "bundles",
        "Copy a space, as it is or was",
        {201: answers.MadeSpace},
        (wire.ForkBody,),
        also=(
            *WITH_BODY,
            *WRITING,
            *_AS_SPACE,
            *EMBEDDING,
            errors.SpaceExists,
            *AS_OF,
        ),
        example={"memory_space_id": "planner-copy"},
    ),
    ("GET", "/spaces/{space}/events"): Described(
        "events",
        "events",
        "Follow what happens in a space",
        {200: _SSE},
        also=(*AS_OF, errors.QuotaExceeded),
        description=_FOLLOW,
    ),
    ("GET", "/events"): Described(
        "events_of_several",
        "events",
        "Follow what happens in one space or several",
        {200: _SSE},
        also=(*AS_OF, errors.QuotaExceeded),
        description=_FOLLOW + " Of several spaces the id is one token for all of them.",
    ),
    ("GET", "/healthz"): Described(
        "healthz", "server", "Whether the process answers", {200: answers.Alive}, in_space=False
    ),
    ("GET", "/openapi.json"): Described(
        "openapi",
        "server",
        "This document",
        {200: "application/json"},
        in_space=False,
    ),
    ("GET", "/docs"): Described(
        "docs", "server", "This document, to be read", {200: "text/html"}, in_space=False
    ),
}
