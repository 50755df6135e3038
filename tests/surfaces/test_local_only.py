"""Web pages of other sites cannot reach a server that listens on a loopback address."""

from __future__ import annotations

import pytest

from engram.server.middleware import is_loopback

from .harness import SPACE, Api

MEMORIES = f"/api/v1/spaces/{SPACE}/memories"
OURS = ["localhost:7432", "localhost", "127.0.0.1:7432", "127.1.2.3", "[::1]:7432", "a.localhost"]
THEIRS = [
    "evil.example",
    "evil.example:7432",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "10.0.0.1",
    "[::2]",
    "localhost@evil.example",
    "[",
]


@pytest.mark.parametrize("host", OURS)
def test_a_loopback_host_is_served(api: Api, host: str) -> None:
    assert api.client.get(MEMORIES, headers={"Host": host}).status_code == 200
    origin = {"Origin": f"http://{host}"}
    assert api.client.get(MEMORIES, headers=origin).status_code == 200


@pytest.mark.parametrize("host", THEIRS)
def test_another_name_that_leads_here_is_refused(unchanged: Api, host: str) -> None:
    answer = unchanged.client.post(MEMORIES, headers={"Host": host}, json={"content": "x"})
    assert (answer.status_code, answer.json()["title"]) == (403, "Forbidden")


@pytest.mark.parametrize("origin", ["null", *(f"https://{host}" for host in THEIRS)])
def test_a_page_of_another_site_is_refused(unchanged: Api, origin: str) -> None:
    answer = unchanged.client.post(MEMORIES, headers={"Origin": origin}, json={"content": "x"})
    assert answer.json()["type"].endswith("/forbidden")


@pytest.mark.parametrize("hosts", [("localhost", "evil.example"), ("evil.example", "localhost")])
@pytest.mark.parametrize("name", ["Host", "Origin"])
def test_one_of_several_is_enough_to_be_refused(
    unchanged: Api, name: str, hosts: tuple[str, str]
) -> None:
    prefix = "http://" if name == "Origin" else ""
    headers = [(name, prefix + host) for host in hosts]
    answer = unchanged.client.get(MEMORIES, headers=headers)
    assert answer.status_code == 403
    assert "evil.example" in answer.json()["detail"]


def test_a_url_without_a_host_is_not_loopback() -> None:
    assert not is_loopback("")
