"""Problem documents as HTTP responses."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.responses import Response

from engram.errors import RequestTimeout
from engram.server.problems import (
    PROBLEM_MEDIA_TYPE,
    Problem,
    encode_problem,
)
from engram.server.request_ids import current_request_id


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    if problem.retry_after_s is not None:
        headers = {**(headers or {}), "Retry-After": str(problem.retry_after_s)}
    if problem.status == RequestTimeout.status:
        # What is still to come of the request would be taken for the next one.
        headers = {**(headers or {}), "Connection": "close"}
    problem = msgspec.structs.replace(problem, request_id=current_request_id())
    return Response(encode_problem(problem), problem.status, headers, media_type=PROBLEM_MEDIA_TYPE)
