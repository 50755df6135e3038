"""Every error a user can meet, and the one table that says what each surface makes of it.

An error knows its problem type (the last part of the `type` URI in HTTP answers), its HTTP status,
its gRPC code and the exit code of the command line. Surfaces translate from here and nowhere else.
The message says what happened and what to do about it; it is shown to users as it is.
"""

from __future__ import annotations

from typing import ClassVar


class FieldError(tuple[str, str]):
    """One thing wrong with one field of a request: (field, message)."""

    __slots__ = ()

    def __new__(cls, field: str, message: str) -> FieldError:
        return super().__new__(cls, (field, message))

    @property
    def field(self) -> str:
        return self[0]

    @property
    def message(self) -> str:
        return self[1]


class EngramError(Exception):
    """Root of all errors Engram raises on purpose."""

    problem: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = 500
    grpc: ClassVar[str] = "INTERNAL"
    exit_code: ClassVar[int] = 1
    retry_after_s: int | None = None
    """When to come again, for what is refused only for now."""

    def __init__(
        self,
        detail: str,
        *,
        memory_space_id: str | None = None,
        errors: tuple[FieldError, ...] = (),
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(detail)
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s
        self.detail = detail
        self.memory_space_id = memory_space_id
        self.errors = errors

    def __str__(self) -> str:
        return self.detail  # which whoever passes it on may have added to


class Malformed(EngramError):
    """The request cannot be read at all: broken JSON, an unknown parameter."""

    problem, title = "malformed", "Malformed request"
    status, grpc, exit_code = 400, "INVALID_ARGUMENT", 2


class SpaceRequired(EngramError):
    problem, title = "memory-space-required", "No memory space named"
    status, grpc, exit_code = 400, "INVALID_ARGUMENT", 2


class SpaceInvalid(EngramError):
    problem, title = "memory-space-invalid", "Invalid memory space id"
    status, grpc, exit_code = 400, "INVALID_ARGUMENT", 2


class SpaceConflict(EngramError):
    problem, title = "memory-space-conflict", "Two memory spaces named"
    status, grpc, exit_code = 400, "INVALID_ARGUMENT", 2


class PositionBeyondEnd(EngramError):
    """A feed was asked to start behind the last position there is."""

    problem, title = "position-beyond-end", "Position beyond the end"
    status, grpc, exit_code = 400, "INVALID_ARGUMENT", 2


class Unauthenticated(EngramError):
    """The request came without a key, or with one that is not valid, or not any more."""

    problem, title = "unauthenticated", "Not authenticated"
    status, grpc, exit_code = 401, "UNAUTHENTICATED", 1


class Forbidden(EngramError):
    """The request may not be made with this key, or not from where it comes."""

    problem, title = "forbidden", "Forbidden"
    status, grpc, exit_code = 403, "PERMISSION_DENIED", 1


class SpaceNotFound(EngramError):
    problem, title = "space-not-found", "Memory space not found"
    status, grpc, exit_code = 404, "NOT_FOUND", 3

    @classmethod
    def of(cls, space_id: str) -> SpaceNotFound:
        """In the same words for one that is not there and one that may not be seen."""
        return cls(f"there is no space {space_id!r}. Create it first", memory_space_id=space_id)


class MemoryNotFound(EngramError):
    problem, title = "memory-not-found", "Memory not found"
    status, grpc, exit_code = 404, "NOT_FOUND", 3


class LinkNotFound(EngramError):
    problem, title = "link-not-found", "Link not found"
    status, grpc, exit_code = 404, "NOT_FOUND", 3


class KeyNotFound(EngramError):
    """No access key has that id."""

    problem, title = "key-not-found", "Key not found"
    status, grpc, exit_code = 404, "NOT_FOUND", 3


class RouteNotFound(EngramError):
    problem, title = "not-found", "No such resource"
    status, grpc, exit_code = 404, "UNIMPLEMENTED", 3


class MethodNotAllowed(EngramError):
    problem, title = "method-not-allowed", "Method not allowed"
    status, grpc, exit_code = 405, "UNIMPLEMENTED", 2


class RequestTimeout(EngramError):
    """A request took too long to come."""

    problem, title = "request-timeout", "Request timeout"
    status, grpc, exit_code = 408, "DEADLINE_EXCEEDED", 1


class SpaceExists(EngramError):
    problem, title = "space-exists", "Memory space exists"
    status, grpc, exit_code = 409, "ALREADY_EXISTS", 4


class SpaceDeleted(EngramError):
    """The id belongs to a deleted space that can still be restored."""

    problem, title = "space-deleted", "Memory space deleted"
    status, grpc, exit_code = 409, "FAILED_PRECONDITION", 4


class MemoryExists(EngramError):
    problem, title = "memory-exists", "Memory exists"
    status, grpc, exit_code = 409, "ALREADY_EXISTS", 4


class EmbedderMismatch(EngramError):
    """A vector was given to a space that makes its own."""

    problem, title = "embedder-mismatch", "Embedder mismatch"
    status, grpc, exit_code = 409, "FAILED_PRECONDITION", 4


class SpaceLocked(EngramError):
    problem, title = "locked", "In use by another process"
    status, grpc, exit_code = 409, "ABORTED", 4


class Stale(EngramError):
    """A memory has changed since the etag was read by which it was to be changed."""

    problem, title = "stale", "Changed meanwhile"
    status, grpc, exit_code = 412, "ABORTED", 4


class InProgress(EngramError):
    """A request with the same idempotency key is being worked on right now."""

    problem, title = "in-progress", "Still in progress"
    status, grpc, exit_code = 409, "ABORTED", 4


class IdempotencyKeyReused(EngramError):
    """An idempotency key was used for another request before."""

    problem, title = "idempotency-key-reused", "Idempotency key reused"
    status, grpc, exit_code = 422, "INVALID_ARGUMENT", 2


class AnswerPurged(EngramError):
    """A request was done before, and what it was answered was purged since."""

    problem, title = "answer-purged", "Answer purged"
    status, grpc, exit_code = 410, "FAILED_PRECONDITION", 3


class HistoryGone(EngramError):
    """A position that history no longer holds, or that belongs to another incarnation.

    `oldest_position` is the first one held, `position` the last, of the space as it is now.
    """

    problem, title = "history-gone", "History gone"
    status, grpc, exit_code = 410, "OUT_OF_RANGE", 3

    def __init__(
        self,
        detail: str,
        *,
        memory_space_id: str | None = None,
        oldest_position: int | None = None,
        position: int | None = None,
        space_uuid: str | None = None,
    ) -> None:
        super().__init__(detail, memory_space_id=memory_space_id)
        self.oldest_position = oldest_position
        self.position = position
        self.space_uuid = space_uuid


class TooLarge(EngramError):
    problem, title = "too-large", "Too large"
    status, grpc, exit_code = 413, "INVALID_ARGUMENT", 2


class UnsupportedMediaType(EngramError):
    problem, title = "unsupported-media-type", "Unsupported media type"
    status, grpc, exit_code = 415, "INVALID_ARGUMENT", 2


class Invalid(EngramError):
    """The request can be read, but a field's value cannot be accepted."""

    problem, title = "invalid", "Invalid request"
    status, grpc, exit_code = 422, "INVALID_ARGUMENT", 2

    @classmethod
    def of(cls, field: str, message: str, *, memory_space_id: str | None = None) -> Invalid:
        """An error about one field."""
        return cls(
            f"{field}: {message}",
            errors=(FieldError(field, message),),
            memory_space_id=memory_space_id,
        )


class QuotaExceeded(EngramError):
    """There is as much of something as there may be, until some of it is given up."""

    problem, title = "quota-exceeded", "Quota exceeded"
    status, grpc, exit_code = 429, "RESOURCE_EXHAUSTED", 1


class RateLimited(EngramError):
    """More was asked of a space in a second than its quotas allow."""

    problem, title = "rate-limited", "Too many requests"
    status, grpc, exit_code = 429, "RESOURCE_EXHAUSTED", 1
    retry_after_s = 1


class SpaceDamaged(EngramError):
    problem, title = "space-damaged", "Memory space damaged"
    status, grpc, exit_code = 503, "DATA_LOSS", 5


class KeysDamaged(EngramError):
    """The file of access keys cannot be read, so nobody can be let in."""

    problem, title = "keys-damaged", "Access keys damaged"
    status, grpc, exit_code = 503, "DATA_LOSS", 5


class OutcomeUnknown(EngramError):
    """A sync failed: the write may or may not be there once the space has been reopened."""

    problem, title = "outcome-unknown", "Outcome unknown"
    status, grpc, exit_code = 503, "UNKNOWN", 1


class EmbedderUnavailable(EngramError):
    problem, title = "embedder-unavailable", "Embedder unavailable"
    status, grpc, exit_code = 503, "UNAVAILABLE", 1


class Unavailable(EngramError):
    """The server is shutting down, or the handle was closed."""

    problem, title = "overloaded", "Temporarily unavailable"
    status, grpc, exit_code = 503, "UNAVAILABLE", 1


class ServerUnreachable(EngramError):
    """A client found no server, or lost it in the middle of a request."""

    problem, title = "server-unreachable", "Server unreachable"
    status, grpc, exit_code = 503, "UNAVAILABLE", 1


class ServerAnswerInvalid(EngramError):
    """What answered a client is not an Engram server, or one that it does not understand."""

    problem, title = "server-answer-invalid", "Server answer not understood"
    status, grpc, exit_code = 502, "INTERNAL", 1


class DiskFull(EngramError):
    problem, title = "disk-full", "Disk full"
    status, grpc, exit_code = 507, "RESOURCE_EXHAUSTED", 1


class DataRootUnusable(EngramError):
    """The data root is missing, not a directory, not writable, or not one of ours."""

    problem, title = "data-root-unusable", "Data root unusable"
    status, grpc, exit_code = 500, "INTERNAL", 1
