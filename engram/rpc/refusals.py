"""Errors as `google.rpc.Status`: the code, a sentence, and what can be acted on in the details.

`ErrorInfo.reason` is the problem type that HTTP has too, in the domain `engram.dev`; what else is
known stands in its metadata. `BadRequest` tells what is wrong with which field, `RetryInfo` when to
come again. All of it travels in trailers, whose size clients bound, so long texts are cut.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from engram.errors import EngramError, HistoryGone
from engram.server.problems import PROBLEM_TYPE_BASE

DOMAIN: Final = "engram.dev"
TEXT_BYTES_MAX: Final = 1_000
"""Clients take 8 KiB of trailers by default; a text stands there twice, encoded."""
VIOLATIONS_MAX: Final = 3
_CODES: Final[Mapping[str, grpc.StatusCode]] = {code.name: code for code in grpc.StatusCode}


def code_of(error: EngramError) -> grpc.StatusCode:
    return _CODES[error.grpc]


def status_of(
    error: EngramError, memory_space_id: str | None, told: Mapping[str, str] | None = None
) -> Status:
    """What a refused call is answered with; `memory_space_id` counts where the error does not know
    its space, `told` goes with the metadata.
    """
    known = {
        "type": PROBLEM_TYPE_BASE + error.problem,
        "title": error.title,
        "status": str(error.status),
        "memory_space_id": error.memory_space_id or memory_space_id,
        **(told or {}),
    }
    if isinstance(error, HistoryGone):
        known["oldest_position"] = _text(error.oldest_position)
        known["position"] = _text(error.position)
        known["space_uuid"] = error.space_uuid
    given = {name: value for name, value in known.items() if value is not None}
    details = [_packed(ErrorInfo(reason=error.problem, domain=DOMAIN, metadata=given))]
    if error.errors:
        violations = [
            BadRequest.FieldViolation(
                field=_cut(item.field, TEXT_BYTES_MAX // 5),
                description=_cut(item.message, TEXT_BYTES_MAX // 2),
            )
            for item in error.errors[:VIOLATIONS_MAX]
        ]
        details.append(_packed(BadRequest(field_violations=violations)))
    if error.retry_after_s is not None:
        wait = Duration(seconds=math.ceil(error.retry_after_s))
        details.append(_packed(RetryInfo(retry_delay=wait)))
    message = _cut(error.detail, TEXT_BYTES_MAX)
    return Status(code=code_of(error).value[0], message=message, details=details)


def _packed(detail: ErrorInfo | BadRequest | RetryInfo) -> Packed:
    packed = Packed()
    packed.Pack(detail)
    return packed


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _cut(text: str, bytes_max: int) -> str:
    encoded = text.encode(errors="replace")
    if len(encoded) <= bytes_max:
        return encoded.decode()
    return encoded[:bytes_max].decode(errors="ignore") + "…"
