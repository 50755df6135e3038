"""A client belongs to the process that made it; a forked child is refused and does no harm."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import engram
from tests.unit.conftest import CHILD_S_MAX, in_child, refusal

from .harness import Server

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    # Python 3.12 and newer warn of what is tested here.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

FORKING = f"""
import os, signal, sys
import engram

client = engram.Client(sys.argv[1])
space = client.ensure_space("alpha")[0]
feed = space.events(0)
next(feed)
child = os.fork()
if child == 0:
    signal.alarm({CHILD_S_MAX})
    if sys.argv[2] == "close":
        feed.close()
        client.close()
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
space.remember("from the parent")
assert next(feed).memory.content == "from the parent"
client.close()
"""


@pytest.fixture
def server(tmp_path: Path, start_server: Callable[..., Server]) -> Server:
    return start_server(tmp_path / "data")


def test_a_forked_child_is_refused_everything_but_a_client_of_its_own(server: Server) -> None:
    with engram.Client(server.url) as client:
        space = client.ensure_space("alpha")[0]
        feed = space.events(0)
        next(feed)

        def work() -> list[list[str]]:
            uses: list[Callable[[], object]] = [client.spaces, space.info, lambda: next(feed)]
            refused = [refusal(use) for use in uses]
            feed.close()
            client.close()
            gc.collect()
            with engram.Client(server.url) as own:
                own.space("alpha").remember("from the child", id="child")
            return refused

        why = f"the client was made by another process (pid {os.getpid()}); make a new one in this "
        assert in_child(work) == [["Unavailable", f"{why}one"]] * 3
        assert space.get("child").content == "from the child"
        assert next(feed).position == 2


@pytest.mark.parametrize("how", ["leave", "close"])
def test_a_child_can_end_and_its_parent_goes_on(server: Server, how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKING, server.url, how],
        capture_output=True,
        text=True,
        timeout=2 * CHILD_S_MAX,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
