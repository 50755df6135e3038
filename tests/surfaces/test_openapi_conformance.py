"""A sample of `make schemathesis`: requests made up from the document, sent to a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from schemathesis.core.transport import Response

from . import conformance
from .harness import Server

CASES = 190


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("conformance") / "data")
    yield running
    running.kill()


def test_whatever_is_asked_is_answered_as_the_document_says(server: Server) -> None:
    tally = conformance.run(server, cases=CASES, start=1)
    assert list(tally.wrong.values()) == []
    assert tally.cases >= CASES
    answered = {status for statuses in tally.statuses.values() for status in statuses}
    assert {200, 201, 400, 404, 422} <= answered


def test_an_answer_beside_the_document_would_be_found(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind: another body, another status, and one that no server should have."""
    monkeypatch.setattr(conformance, "explained", lambda response: False)
    real = conformance.what_is_wrong

    def changed(case: object, response: Response) -> list[str]:
        response.content = b'{"status":"ill"}'
        response.clear_cache()
        other = list(real(case, response))
        response.status_code = 500
        return [*other, *real(case, response)]

    monkeypatch.setattr(conformance, "what_is_wrong", changed)
    tally = conformance.run(server, cases=2, start=1, only="healthz")
    found = " ".join(tally.wrong.values())
    assert "JsonSchemaError" in found
    assert "500" in found
