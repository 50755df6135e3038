"""The OpenAPI document: the tables that routes are made of, with what is said about each entry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final, NamedTuple

import engram
from engram import errors, limits
from engram.access.principal import Need
from engram.memory.model import Memory, Remembered
from engram.server.calls import LAST_EVENT_ID
from engram.server.conditions import IDEMPOTENCY_KEY, IF_MATCH, IF_NONE_MATCH, REPLAYED_HEADER
from engram.server.events import STREAM_OPERATIONS
from engram.server.forks import FORK
from engram.server.openapi.described import DESCRIBED, EVERY, IN_SPACE, JSON, Described, Struct
from engram.server.openapi.parameters import PATH_PARAMETERS, SPACE_ID, Parameter, parameter_of
from engram.server.openapi.schemas import component_schemas, reference
from engram.server.problems import PROBLEM_MEDIA_TYPE, PROBLEM_TYPE_BASE, Problem
from engram.server.request_ids import REQUEST_ID_HEADER
from engram.server.resolver import SPACE_HEADER
from engram.server.rest import (
    API,
    INCARNATION_HEADER,
    NOT_MODIFIED,
    REGISTRY_OPERATIONS,
    SPACE_OPERATIONS,
)
from engram.server.transfers import EXPORT, IMPORT
from engram.server.wire import encode

OPENAPI: Final = "3.1.0"
_IN_SPACE: Final = "/spaces/{space}"
_SEVERAL: Final = "events_of_several"
_COPIES: Final = "fork"
"""What makes a space has to be told of what, on every server."""
_BEARER: Final = "key"
_SCHEME: Final = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "engram_<key id>_<secret>",
    "description": (
        "An access key, made by `engram keys create`. Not needed on a loopback address as long as "
        "the data root has none. What an operation takes are scopes of the key in that space; to "
        "make a space it takes `admin` on all of them."
    ),
}
_ABOUT: Final = f"""\
A memory database for AI agents. Every request on memories names one memory space: in the path, or \
in the header `{SPACE_HEADER}` of the same route without that part. GET routes answer HEAD too.

Bodies are JSON in UTF-8, times RFC 3339. Fields and parameters that are not named here are \
refused. Bodies may have {limits.BODY_BYTES_MAX} bytes. Errors are problem documents (RFC 9457).

Every answer has a `{REQUEST_ID_HEADER}`: the one that was sent, if it was sane, else one that was \
made; problems have it too, and what the server logs of the request.
"""
_TAGS: Final = {
    "memories": "What is remembered",
    "recall": "Finding it again",
    "links": "Associations between memories",
    "beliefs": "What memories have in common",
    "events": "What happens, as it happens",
    "spaces": "Memory spaces",
    "bundles": "Spaces as files, and copies",
    "server": "The server itself",
}


class Served(NamedTuple):
    """One operation at one path. `header`: it names its space by the header, and nowhere else."""

    method: str
    path: str
    described: Described
    need: Need | None = None
    """None: for whoever asks, also without a key."""
    parameters: frozenset[str] = frozenset()
    understood: frozenset[str] = frozenset()
    header: bool = False

    @property
    def id(self) -> str:
        return f"{self.described.name}_by_header" if self.header else self.described.name


OUTSIDE: Final = ("/healthz", "/openapi.json", "/docs")
"""What is served outside of the API, all of it with GET and without parameters."""


def served_operations() -> Iterator[Served]:
    """Every operation at every path. Raises :class:`KeyError` for one that is not described."""
    below_api = (*REGISTRY_OPERATIONS, IMPORT, *STREAM_OPERATIONS)
    for operation in below_api:
        described = DESCRIBED[operation.method, operation.path]
        path = API + operation.path
        yield Served(operation.method, path, described, operation.need, operation.parameters)
    for inside in (*SPACE_OPERATIONS, EXPORT, FORK):
        described = DESCRIBED[inside.method, inside.path]
        path = API + _IN_SPACE + inside.path
        understood: frozenset[str] = getattr(inside, "understood", frozenset())
        below = Served(inside.method, path, described, inside.need, inside.parameters, understood)
        yield below
        yield below._replace(path=API + inside.path, header=True)
    for path in OUTSIDE:
        yield Served("GET", path, DESCRIBED["GET", path])


@cache
def encoded_document(*, explicit: bool = True) -> bytes:
    """The document as it is served, by a server where requests have to name their space or, if not
    `explicit`, need not.
    """
    return encode(build_document(explicit=explicit))


def build_document(*, explicit: bool = True) -> dict[str, Any]:
    served = list(served_operations())
    paths: dict[str, dict[str, Any]] = {}
    refusals = _Refusals()
    for item in sorted(served, key=lambda item: (item.header, item.path)):
        paths.setdefault(item.path, {})[item.method.lower()] = _operation(item, refusals, explicit)
    return {
        "openapi": OPENAPI,
        "info": {
            "title": "Engram",
            "version": engram.__version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": component_schemas(_structs(served)),
            "responses": refusals.responses,
            "securitySchemes": {_BEARER: _SCHEME},
        },
    }


def _structs(served: Iterable[Served]) -> list[Struct]:
    """All that bodies and answers are, without repetition."""
    found: dict[Struct, None] = {Problem: None, engram.Event: None}
    for item in served:
        found.update(dict.fromkeys(item.described.bodies))
        for answer in item.described.answers.values():
            if not isinstance(answer, str):
                found.update(dict.fromkeys(_alternatives(answer)))
    return list(found)


def _alternatives(answer: Struct | tuple[Struct, ...]) -> tuple[Struct, ...]:
    return answer if isinstance(answer, tuple) else (answer,)


class _Refusals:
    """The answers of refusals, each of which many operations have, once and by name."""

    def __init__(self) -> None:
        self.responses: dict[str, dict[str, Any]] = {}

    def reference(self, status: int, response: dict[str, Any]) -> dict[str, Any]:
        alike = [name for name in self.responses if name.startswith(f"Refused{status}")]
        for name in alike:
            if self.responses[name] == response:
                break
        else:
            name = f"Refused{status}_{len(alike) + 1}"
            self.responses[name] = response
        return {"$ref": f"#/components/responses/{name}"}


def _operation(item: Served, refusals: _Refusals, explicit: bool) -> dict[str, Any]:
    described = item.described
    operation: dict[str, Any] = {
        "operationId": item.id,
        "tags": [described.tag],
        "summary": described.summary,
    }
    if described.description:
        operation["description"] = described.description
    if parameters := list(_parameters(item, explicit)):
        operation["parameters"] = parameters
    if (body := _body(described)) is not None:
        operation["requestBody"] = body
    if item.need is not None:
        # An empty one: on a loopback address there may be no keys, and then none is needed.
        operation["security"] = [{_BEARER: sorted(item.need.scopes)}, {}]
    operation["responses"] = dict(sorted((*_answers(item), *_problems(item, refusals))))
    return operation


def _parameters(item: Served, explicit: bool) -> Iterator[dict[str, Any]]:
    for part in item.path.split("/"):
        if part.startswith("{"):
            name = part.strip("{}")
            parameter = PATH_PARAMETERS[name]._replace(required=True)
            yield _parameter("path", name, parameter)
    if item.path.startswith(API):
        yield _parameter("header", SPACE_HEADER, _space_header(item, explicit))
    for name in sorted(item.parameters):
        yield _parameter("query", name, parameter_of(item.described.name, name))
    for header in sorted(item.understood):
        yield _parameter("header", header, _CONDITIONS[header])
    if item.described.tag == "events":
        last = Parameter("As `after`, and beats it.", {"type": "string"})
        yield _parameter("header", LAST_EVENT_ID, last)


_CONDITIONS: Final[Mapping[str, Parameter]] = {
    IDEMPOTENCY_KEY: Parameter(
        "Done once however often it is sent, for 24 hours, and answered the same.",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    ),
    IF_MATCH: Parameter(
        "Only if the memory is still as one of these entity tags says; else 412.",
        {"type": "string"},
    ),
    IF_NONE_MATCH: Parameter(
        "Only if the memory is not as one of these entity tags says; else 304.",
        {"type": "string"},
    ),
}


def _space_header(item: Served, explicit: bool) -> Parameter:
    if item.header and (explicit or item.described.name == _COPIES):
        return Parameter("The memory space.", SPACE_ID, required=True)
    if item.header:
        return Parameter(
            "The memory space; the server's default space where it is left out, which is "
            "deprecated.",
            SPACE_ID,
        )
    if item.described.name == _SEVERAL:
        return Parameter("The memory space, where no parameter names any.", SPACE_ID)
    if "{space}" in item.path:
        return Parameter("If it is sent, the same space as in the path.", SPACE_ID)
    return Parameter("Need not be sent here, and must not contradict the body.", SPACE_ID)


def _parameter(place: str, name: str, parameter: Parameter) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": name,
        "in": place,
        "description": parameter.description,
        "schema": parameter.schema,
    }
    if parameter.required:
        shown["required"] = True
    if parameter.schema.get("type") == "array":
        shown |= {"style": "form", "explode": True}
    return shown


def _body(described: Described) -> dict[str, Any] | None:
    if described.media_types != (JSON,):
        # A schema without a type: OpenAPI 3.1 says so for what is not text.
        content: dict[str, Any] = {media_type: {} for media_type in described.media_types}
        return {"required": True, "content": content}
    if not described.bodies:
        return None
    media: dict[str, Any] = {"schema": _one_of(described.bodies)}
    if described.example is not None:
        media["example"] = described.example
    return {"required": described.body_required, "content": {JSON: media}}


def _one_of(structs: tuple[Struct, ...]) -> dict[str, Any]:
    references = [reference(struct) for struct in structs]
    return references[0] if len(references) == 1 else {"oneOf": references}


def _answers(item: Served) -> Iterator[tuple[str, dict[str, Any]]]:
    for status, answer in item.described.answers.items():
        shown: dict[str, Any] = {"description": _DONE[status]}
        if isinstance(answer, str):
            text = answer.startswith("text/")
            shown["content"] = {answer: {"schema": {"type": "string"}} if text else {}}
        else:
            shown["content"] = {JSON: {"schema": _one_of(_alternatives(answer))}}
        if headers := dict(_headers(item, status, answer)):
            shown["headers"] = headers
        yield str(status), shown
    if IF_NONE_MATCH in item.understood:
        yield str(NOT_MODIFIED), {"description": "It is as `If-None-Match` says"}


def _headers(
    item: Served, status: int, answer: Struct | tuple[Struct, ...] | str
) -> Iterator[tuple[str, dict[str, Any]]]:
    if status == 201:
        yield "Location", _header("The path of what was made; not of several memories at once.")
    if answer in (Memory, Remembered):
        yield "ETag", _header("Stands for this revision of the memory.")
    if item.described.name == DESCRIBED[EXPORT.method, EXPORT.path].name:
        yield "Engram-Position", _header("The position that the bundle goes up to.")
        yield "Content-Disposition", _header("A name for the file.")
    if IDEMPOTENCY_KEY in item.understood:
        yield REPLAYED_HEADER, _header("`true` where it was done before, and is told again.")
    if item.described.name in _ON_MEMORIES:
        yield INCARNATION_HEADER, _header("By which incarnation of the space this is answered.")


_ON_MEMORIES: Final = frozenset(DESCRIBED[item.method, item.path].name for item in SPACE_OPERATIONS)


def _header(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}}


_DONE: Final[Mapping[int, str]] = {200: "Done", 201: "Made"}


_LATER: Final = (errors.RateLimited.problem, errors.Unavailable.problem)


def _problems(item: Served, refusals: _Refusals) -> Iterator[tuple[str, dict[str, Any]]]:
    """One answer for each status, which names the types of problems it may be."""
    kinds = [*(EVERY if item.path.startswith(API) else _OUTSIDE), *item.described.also]
    if item.described.in_space:
        kinds += IN_SPACE
    if "{" in item.path:  # and so a path that no operation has
        kinds.append(errors.RouteNotFound)
    if IF_MATCH in item.understood:
        kinds.append(errors.Stale)
    if IDEMPOTENCY_KEY in item.understood:
        kinds += [errors.InProgress, errors.IdempotencyKeyReused, errors.AnswerPurged]
    if item.header or item.described.name == _SEVERAL:
        kinds.append(errors.SpaceRequired)
    by_status: dict[int, dict[str, str]] = {}
    for kind in kinds:
        by_status.setdefault(kind.status, {})[kind.problem] = kind.title
    for status, problems in by_status.items():
        listed = ", ".join(f"`{name}` ({title})" for name, title in problems.items())
        types = [PROBLEM_TYPE_BASE + name for name in problems]
        schema = {
            "allOf": [
                reference(Problem),
                {"properties": {"type": {"enum": types}, "status": {"const": status}}},
            ]
        }
        content = {PROBLEM_MEDIA_TYPE: {"schema": schema}}
        refusal: dict[str, Any] = {"description": listed, "content": content}
        if status == errors.Unauthenticated.status:
            refusal["headers"] = {"WWW-Authenticate": _header("As RFC 6750 has it.")}
        if not problems.keys().isdisjoint(_LATER):
            refusal["headers"] = {"Retry-After": _header("Seconds, where it is known how many.")}
        yield str(status), refusals.reference(status, refusal)


_OUTSIDE: Final = (errors.Malformed, errors.Forbidden, errors.TooLarge, errors.EngramError)
