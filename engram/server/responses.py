"""Problem documents as HTTP responses."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from engram.server.problems import PROBLEM_MEDIA_TYPE, Problem, encode_problem


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    if problem.retry_after_s is not None:
        headers = {**(headers or {}), "Retry-After": str(problem.retry_after_s)}
    return Response(encode_problem(problem), problem.status, headers, media_type=PROBLEM_MEDIA_TYPE)
