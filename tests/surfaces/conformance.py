"""Requests made up from the OpenAPI document, sent to a real server, and what it answers to them.

    python -m tests.surfaces.conformance [--cases 20000] [--seed 1]

Half of the cases keep to the document, half break it somewhere. An answer may be any that the
document names for the operation, but no 5xx, unless it is one that :func:`explained` knows. What
breaks the document in its body has to be refused.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi import checks

from .harness import DIMENSIONS, Server

ENDLESS = {"events", "events_by_header", "events_of_several"}
"""Streams: their refusals are tested by hand."""
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
SPACES = ("alpha", "vectors", "gone")
IDS = ("one", "two", "three")
PREPARED_EVERY = 6
"""Operations; preparing takes some ten requests."""
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


class Tally(NamedTuple):
    """What came of the cases: statuses by operation, and what was wrong, each kind once."""

    cases: int
    statuses: dict[str, collections.Counter[int]]
    wrong: dict[tuple[str, str], str]


def run(server: Server, *, cases: int, start: int, only: str | None = None) -> Tally:
    """Send that many cases, spread evenly over all operations, or those of one of them."""
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [item.ok() for item in schema.get_all_operations()]
    names = {item.definition.raw["operationId"] for item in operations}
    wanted = names - ENDLESS if only is None else {only}
    operations = [item for item in operations if item.definition.raw["operationId"] in wanted]
    tally = Tally(cases, collections.defaultdict(collections.Counter), {})
    # Where nothing can be given, nothing can be given wrong.
    bare = sum(not item.definition.raw.get("parameters") for item in operations)
    each = -(-cases // (len(operations) * len(MODES) - bare))
    with requests.Session() as session:
        for place, operation in enumerate(operations):
            if place % PREPARED_EVERY == 0:
                prepare(server)
            for mode in MODES:
                _run_operation(server, session, operation, mode, each, start, tally)
    return tally._replace(cases=sum(sum(found.values()) for found in tally.statuses.values()))


def prepare(server: Server) -> None:
    """What requests may find: whatever others did to it, it is there again."""
    spaces = "/api/v1/spaces"
    for name in ("alpha", "vectors"):
        server.request("POST", f"{spaces}/{name}/restore")
    server.request("PUT", f"{spaces}/alpha")
    caller = {"model": "caller", "dimensions": DIMENSIONS}
    server.request("PUT", f"{spaces}/vectors", {"embedding": caller})
    server.request("PATCH", f"{spaces}/alpha", {"quotas": "none", "forgetting": "none"})
    server.request("PATCH", f"{spaces}/vectors", {"quotas": "none", "forgetting": "none"})
    for memory_id in IDS:
        memory = {"id": memory_id, "content": f"{memory_id} of what is remembered", "tags": ["x"]}
        server.request("POST", f"{spaces}/alpha/memories", memory)
        vector = [1.0, 0.0, 0.0, float(len(memory_id))]
        server.request("POST", f"{spaces}/vectors/memories", {**memory, "embedding": vector})
    server.request("DELETE", f"{spaces}/alpha/memories/three")
    server.request("POST", f"{spaces}/alpha/links", {"source": "one", "target": "two", "weight": 1})


def _run_operation(
    server: Server,
    session: requests.Session,
    operation: Any,
    mode: GenerationMode,
    examples: int,
    start: int,
    tally: Tally,
) -> None:
    name = operation.definition.raw["operationId"]

    @seed(start)
    @settings(
        max_examples=examples,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), known=known_values())
    def send(case: Any, known: dict[str, str]) -> None:
        _point(case, known)
        response = case.call(session=session, timeout=60)
        tally.statuses[name][response.status_code] += 1
        if name in {"delete_space", "purge_space"} and response.status_code == 200:
            prepare(server)
        for what in what_is_wrong(case, response):
            text = f"{case.method} {case.formatted_path} {str(case.body)[:300]!r} -> {what}"
            tally.wrong.setdefault((name, what[:80]), text)

    with contextlib.suppress(Unsatisfiable):
        send()


@st.composite
def known_values(draw: st.DrawFn) -> dict[str, str]:
    """What to put into a path, and the header: mostly what is there."""
    return {
        "space": draw(st.sampled_from((*SPACES, "alpha", "alpha", ""))),
        "id": draw(st.sampled_from((*IDS, "missing", ""))),
        "other": draw(st.sampled_from((*IDS, "missing"))),
        "body": draw(st.sampled_from(("fitting", "as it is"))),
    }


def _point(case: Any, known: dict[str, str]) -> None:
    """Have a case mean something that is there; where that is empty, it stays as it is."""
    for name in case.path_parameters:
        value = known[{"space": "space", "target": "other"}.get(name, "id")]
        if value:
            case.path_parameters[name] = value
    if "memory_id" in (case.query or {}) and known["id"]:
        case.query["memory_id"] = known["id"]
    if known["body"] == "fitting" and isinstance(case.body, dict):
        _fit(case, known)
    headers = case.headers or {}
    if known["space"] and "X-Memory-Space" in headers:
        headers["X-Memory-Space"] = known["space"]


def _fit(case: Any, known: dict[str, str]) -> None:
    """Name in a body what is there. A vector of random length hardly ever has the right one."""
    body = case.body
    if case.meta.components[ParameterLocation.BODY].mode.is_negative:
        return
    body.pop("embedding", None)
    if "weight" in body:
        body["source"], body["target"] = known["id"] or "one", known["other"]
    if "memory_ids" in body:
        body["memory_ids"] = [known["other"]]


def what_is_wrong(case: Any, response: Any) -> Iterator[str]:
    if response.status_code >= 500 and not explained(response):
        yield f"{response.status_code}: {response.text[:500]}"
    try:
        case.validate_response(response, checks=CHECKS)
    except FailureGroup as group:
        for failure in group.exceptions:
            yield f"{type(failure).__name__}: {failure}"
    body = case.meta.components.get(ParameterLocation.BODY) if case.meta else None
    if body is not None and body.mode.is_negative and response.status_code < 300:
        yield f"taken, though its body is not what the document says: {response.status_code}"


def explained(response: Any) -> bool:
    """A space that wants a server's or an optional embedder, which is not there."""
    return bool(response.json()["type"].endswith("/embedder-unavailable"))


def main() -> int:
    parser = argparse.ArgumentParser(description="requests made up from the OpenAPI document")
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        server = Server(Path(folder) / "data")
        try:
            tally = run(server, cases=options.cases, start=options.seed)
        finally:
            server.kill()
    for name, statuses in sorted(tally.statuses.items()):
        print(f"{name:28}", *(f"{s}:{n}" for s, n in sorted(statuses.items())))
    for (name, _), text in tally.wrong.items():
        print(f"WRONG {name}: {text}")
    print(f"{tally.cases} cases, seed {options.seed}: {len(tally.wrong)} kinds of wrong answers")
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
