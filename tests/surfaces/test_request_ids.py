"""Every answer has the id of its request; so have its problem and what is logged meanwhile."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import engram
from engram.server.request_ids import RequestIdFilter

from .harness import SPACE, Api, Server
from .test_serve import exchange

MADE = re.compile(r"[0-9a-f]{16}")
MISSING = "/api/v1/spaces/not-there"


@pytest.mark.parametrize("path", ["/healthz", f"/api/v1/spaces/{SPACE}", MISSING, "/nowhere"])
@pytest.mark.parametrize("given", ["my-id", "!~" * 64])
def test_an_id_that_is_sane_is_taken(api: Api, path: str, given: str) -> None:
    answer = api.client.get(path, headers={"X-Request-Id": given})
    assert answer.headers.get_list("X-Request-Id") == [given]
    if answer.status_code >= 400:
        assert answer.json()["request_id"] == given


@pytest.mark.parametrize(
    "given",
    [
        [],
        [("X-Request-Id", "")],
        [("X-Request-Id", "two words")],
        [("X-Request-Id", "x" * 129)],
        [("X-Request-Id", b"caf\xe9")],
        [("X-Request-Id", "one"), ("X-Request-Id", "two")],
    ],
    ids=["none", "empty", "a space", "long", "not ascii", "two"],
)
def test_for_any_other_one_is_made(api: Api, given: list[tuple[str, str]]) -> None:
    answers = [api.client.get(MISSING, headers=given) for _ in range(2)]
    first, second = (answer.headers["X-Request-Id"] for answer in answers)
    assert MADE.fullmatch(first)
    assert first != second
    assert answers[0].json()["request_id"] == first


def test_what_is_logged_of_a_request_has_its_id(
    api: Api, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what is logged in the worker thread."""

    def fail(self: engram.Space, *given: object, **named: object) -> None:
        logging.getLogger("engram.spaces").warning("in a thread")
        raise RuntimeError("not expected")

    monkeypatch.setattr(engram.Space, "list", fail)
    caplog.handler.addFilter(RequestIdFilter())
    headers = {"X-Request-Id": "asked-for"}
    answer = api.client.get(f"/api/v1/spaces/{SPACE}/memories", headers=headers)
    assert answer.status_code == 500
    assert answer.json()["request_id"] == "asked-for"
    assert [(r.name, r.request) for r in caplog.records if r.name.startswith("engram")] == [
        ("engram.spaces", " request=asked-for"),
        ("engram.server", " request=asked-for"),
    ]
    assert RequestIdFilter().filter(record := logging.makeLogRecord({}))
    assert record.__dict__["request"] == ""


def test_a_server_says_it_too(tmp_path: Path, start_server: Callable[..., Server]) -> None:
    server = start_server(tmp_path / "data")
    status, text = exchange(server, b"no request\r\n\r\n")
    head, _, body = text.partition("\r\n\r\n")
    (made,) = re.findall(r"x-request-id: (\S+)", head)
    assert status == 400
    assert f'"request_id":"{made}"' in body
