"""Errors as RFC 9457 problem documents. Pure, and free of HTTP: the command line uses them too."""

from __future__ import annotations

from typing import Final

import msgspec

from engram.errors import EngramError, HistoryGone

PROBLEM_TYPE_BASE: Final = "https://engram.dev/problems/"
PROBLEM_MEDIA_TYPE: Final = "application/problem+json"


class ProblemField(msgspec.Struct, frozen=True):
    """What is wrong with one field. `field` is its path in the body, as in `memories[2].tags`."""

    field: str
    message: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One error, as it is answered. What has no value is left out."""

    type: str
    title: str
    status: int
    detail: str
    memory_space_id: str | None = None
    errors: tuple[ProblemField, ...] = ()
    oldest_position: int | None = None
    position: int | None = None
    space_uuid: str | None = None
    retry_after_s: int | None = None
    request_id: str | None = None


def problem_of(error: EngramError, *, memory_space_id: str | None = None) -> Problem:
    """The document of `error`; `memory_space_id` counts where the error does not know its space."""
    gone = error if isinstance(error, HistoryGone) else None
    return Problem(
        type=PROBLEM_TYPE_BASE + error.problem,
        title=error.title,
        status=error.status,
        detail=error.detail,
        memory_space_id=error.memory_space_id or memory_space_id,
        errors=tuple(ProblemField(item.field, item.message) for item in error.errors),
        oldest_position=gone.oldest_position if gone else None,
        position=gone.position if gone else None,
        space_uuid=gone.space_uuid if gone else None,
        retry_after_s=error.retry_after_s,
    )


def encode_problem(problem: Problem) -> bytes:
    return msgspec.json.encode(problem)
