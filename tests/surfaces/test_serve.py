"""The server as a process of its own: ready line, signals, ports, data roots, raw HTTP."""

from __future__ import annotations

import http.client
import json
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from engram import limits
from engram.server.protocol import HEAD_BYTES_MAX
from engram.server.serve import DRAIN_S_MAX

from .harness import Server

Start = Callable[..., Server]
Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def connect(server: Server) -> socket.socket:
    split = urlsplit(server.url)
    assert split.hostname is not None
    return socket.create_connection((split.hostname, split.port or 0), timeout=30)


def exchange(server: Server, *parts: bytes) -> tuple[int, str]:
    """Send raw bytes and read until the server closes; returns the first status and all text."""
    with closing(connect(server)) as connection:
        for part in parts:
            connection.sendall(part)
        received = read_to_end(connection)
    return int(received.split(" ", 2)[1]) if received else 0, received


def read_to_end(connection: socket.socket) -> str:
    chunks = []
    while chunk := connection.recv(1 << 16):
        chunks.append(chunk)
    return b"".join(chunks).decode()


def head(method: str, path: str, *lines: str) -> bytes:
    head_lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", ""]
    return "\r\n".join(head_lines).encode("latin-1")


def test_the_first_run_works_from_start_to_end(tmp_path: Path, start_server: Start) -> None:
    server = start_server(tmp_path / "data")
    assert re.fullmatch(r"engram ready http://127\.0\.0\.1:\d+\n", server.ready_line)
    assert server.request("GET", "/healthz") == (200, {"status": "ok"})
    assert server.request("PUT", "/api/v1/spaces/alpha")[0] == 201
    memory = {"content": "The deploy key is rotated every Monday"}
    status, stored = server.request("POST", "/api/v1/spaces/alpha/memories", memory)
    assert status == 201
    question = {"query": "when is the deploy key rotated?"}
    header = {"X-Memory-Space": "alpha"}
    status, answer = server.request("POST", "/api/v1/recall", question, header)
    assert (status, answer["results"][0]["memory"]) == (200, stored["memories"][0])
    status, said = server.stop()
    assert status == 0
    assert "curl" in said
    assert "Traceback" not in said

    again = start_server(tmp_path / "data")
    assert again.request("POST", "/api/v1/recall", question, header)[1]["results"]


def test_the_hints_can_be_pasted(tmp_path: Path, start_server: Start) -> None:
    server = start_server(tmp_path / "data")
    _, said = server.stop(signal.SIGINT)
    hints = [line.strip() for line in said.splitlines() if "curl" in line]
    assert len(hints) == 3
    again = start_server(tmp_path / "data")
    for hint in hints:
        command = hint.replace(server.url, again.url).replace("curl ", "curl -sS -f ")
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert "Monday" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0_and_releases_the_data_root(
    tmp_path: Path, start_server: Start, number: signal.Signals
) -> None:
    server = start_server(tmp_path / "data")
    started = time.monotonic()
    status, said = server.stop(number)
    assert status == 0
    assert "Traceback" not in said
    assert time.monotonic() - started < 5
    assert start_server(tmp_path / "data").request("GET", "/healthz")[0] == 200


def test_requests_in_flight_are_finished_before_the_end(
    tmp_path: Path, start_server: Start
) -> None:
    server = start_server(tmp_path / "data")
    server.request("PUT", "/api/v1/spaces/alpha")
    body = json.dumps({"id": "last", "content": "finished in time"}).encode()
    with closing(connect(server)) as connection, closing(connect(server)) as idle:
        connection.sendall(
            head("POST", "/api/v1/spaces/alpha/memories", f"Content-Length: {len(body)}")
        )
        connection.sendall(body[:10])
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert server.process.poll() is None
        connection.sendall(body[10:])
        assert read_to_end(connection).startswith("HTTP/1.1 201")
        assert read_to_end(idle) == ""
    assert server.process.wait(timeout=10) == 0
    again = start_server(tmp_path / "data")
    assert again.request("GET", "/api/v1/spaces/alpha/memories/last")[0] == 200


@pytest.mark.slow
def test_a_request_that_never_ends_does_not_keep_the_server(
    tmp_path: Path, start_server: Start
) -> None:
    server = start_server(tmp_path / "data")
    server.request("PUT", "/api/v1/spaces/alpha")
    with closing(connect(server)) as connection:
        connection.sendall(
            head("POST", "/api/v1/spaces/alpha/memories", "Content-Length: 9") + b"{"
        )
        time.sleep(0.3)
        started = time.monotonic()
        status, said = server.stop()
        assert read_to_end(connection).startswith("HTTP/1.1 503")
    assert status == 0
    assert time.monotonic() - started < DRAIN_S_MAX + 5
    assert "Traceback" not in said


def test_what_was_acknowledged_survives_sigkill(tmp_path: Path, start_server: Start) -> None:
    acknowledged: dict[str, list[str]] = {"a": [], "b": [], "c": []}

    def write(server: Server, space: str, boot: int) -> None:
        for number in range(10_000):
            memory = {"id": f"{boot}-{number}", "content": f"memory {number} of boot {boot}"}
            try:
                status, _ = server.request("POST", f"/api/v1/spaces/{space}/memories", memory)
            except (OSError, ValueError, http.client.HTTPException):
                return  # killed before or within its answer
            assert status == 201
            acknowledged[space].append(memory["id"])

    for boot in range(3):
        server = start_server(tmp_path / "data")
        for space in acknowledged:
            server.request("PUT", f"/api/v1/spaces/{space}")
        writers = [threading.Thread(target=write, args=(server, s, boot)) for s in acknowledged]
        before = {space: len(written) for space, written in acknowledged.items()}
        for writer in writers:
            writer.start()
        while any(len(written) == before[space] for space, written in acknowledged.items()):
            assert any(writer.is_alive() for writer in writers)
            time.sleep(0.01)
        time.sleep(0.1 * boot)
        server.kill()
        for writer in writers:
            writer.join()
    server = start_server(tmp_path / "data")
    for space, written in acknowledged.items():
        assert written
        for memory_id in written:
            status, _ = server.request("GET", f"/api/v1/spaces/{space}/memories/{memory_id}")
            assert status == 200, memory_id


def test_a_taken_port_is_refused_before_anything_is_made(tmp_path: Path, cli: Cli) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = cli("serve", "--port", str(port))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"engram: port {port} is taken; choose another with --port, or 0 for a free one\n"
    )
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--host", "0.0.0.0"], "engram keys create --data-root"),
        (["--host", "::"], "access key"),
        (["--host", "192.0.2.1"], "access key"),
        (["--host", ""], "127.0.0.1"),
        (["--host", "no such host"], "127.0.0.1"),
        (["--port", "65536"], "65535"),
        (["--port", "-1"], "65535"),
        (["--port", "http"], "integer"),
        (["--grpc-port", "65536"], "65535"),
        (["--grpc-port", "never"], "off"),
        (["--no-such", "x"], "No such option"),
        (["--config", "x"], "No such file"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(
    tmp_path: Path, cli: Cli, options: list[str], word: str
) -> None:
    done = cli("serve", *options)
    assert done.returncode == 2
    assert word in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_any_loopback_address_is_served(tmp_path: Path, start_server: Start, host: str) -> None:
    if host == "::1":
        try:
            with closing(socket.socket(socket.AF_INET6)) as probe:
                probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
    server = start_server(tmp_path / "data", "--host", host)
    assert server.request("GET", "/healthz")[0] == 200
    if ":" in host:
        assert server.url.startswith("http://[::1]:")


def test_a_second_server_on_the_same_data_root_is_refused(
    tmp_path: Path, start_server: Start, cli: Cli
) -> None:
    server = start_server(tmp_path / "data")
    done = cli("serve", "--port", "0")
    assert done.returncode == 4
    assert str(server.process.pid) in done.stderr
    assert server.url in done.stderr
    assert server.request("GET", "/healthz")[0] == 200


def test_a_data_root_that_cannot_be_used_is_refused(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "file").write_text("x")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letters.txt").write_text("not ours")
    for root in (tmp_path / "file", tmp_path / "file" / "below", foreign):
        done = cli("serve", "--port", "0", "--data-root", str(root))
        assert done.returncode == 1, done.stderr
        assert str(root) in done.stderr
        assert done.stderr.count("\n") == 1
    assert [path.name for path in foreign.iterdir()] == ["letters.txt"]


def test_ready_as_json(tmp_path: Path, start_server: Start) -> None:
    server = start_server(tmp_path / "data", "--json")
    document = json.loads(server.ready_line)
    assert document["pid"] == server.process.pid
    assert document["ready"].startswith("http://127.0.0.1:")
    assert server.stop() == (0, "")


def test_a_damaged_space_leaves_the_others_alone(
    tmp_path: Path, start_server: Start, cli: Cli
) -> None:
    server = start_server(tmp_path / "data")
    for space in ("alpha", "beta"):
        server.request("PUT", f"/api/v1/spaces/{space}")
        server.request("POST", f"/api/v1/spaces/{space}/memories", {"id": "m", "content": "x"})
    server.stop()
    (tmp_path / "data" / "beta").rename(tmp_path / "data" / "gamma")
    server = start_server(tmp_path / "data")
    status, problem = server.request("GET", "/api/v1/spaces/gamma/memories")
    assert status == 503
    assert problem["type"].endswith("/space-damaged")
    assert problem["memory_space_id"] == "gamma"
    status, shown = server.request("GET", "/api/v1/spaces/gamma")
    assert (status, shown["state"]) == (200, "damaged")
    assert shown["detail"]
    status, listed = server.request("GET", "/api/v1/spaces")
    assert status == 200
    assert [space["memory_space_id"] for space in listed["spaces"]] == ["alpha", "gamma"]
    assert server.request("GET", "/api/v1/spaces/alpha/memories/m")[0] == 200
    assert server.request("GET", "/api/v1/spaces/beta")[0] == 404
    assert server.stop()[0] == 0
    assert cli("space", "show", "gamma").returncode == 5
    assert cli("space", "list").returncode == 0


UNREADABLE: dict[str, bytes] = {
    "not http": b"hello\r\n\r\n",
    "path not ascii": "GET /api/v1/spaces/é HTTP/1.1\r\n\r\n".encode(),
    "two lengths": head("POST", "/", "Content-Length: 1", "Content-Length: 2"),
    "length no number": head("POST", "/", "Content-Length: many"),
    "endless path": b"GET /" + b"a" * (HEAD_BYTES_MAX + 1) + b" HTTP/1.1\r\n\r\n",
    "endless headers": head("GET", "/healthz", "X: " + "a" * (HEAD_BYTES_MAX + 1)),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    running = Server(tmp_path_factory.mktemp("served") / "data")
    running.request("PUT", "/api/v1/spaces/alpha")
    yield running
    running.kill()


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_not_http_is_answered_with_a_problem(server: Server, name: str) -> None:
    status, text = exchange(server, UNREADABLE[name])
    assert status == 400
    assert "application/problem+json" in text
    assert json.loads(text.partition("\r\n\r\n")[2])["type"].endswith("/malformed")
    assert server.request("GET", "/healthz")[0] == 200


@pytest.mark.parametrize(
    "name", ["GET http://elsewhere/healthz", "CONNECT x:80", "OPTIONS *", "GET ?"]
)
def test_odd_request_targets_do_no_harm(server: Server, name: str) -> None:
    status, _ = exchange(
        server, f"{name} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    )
    assert status < 500
    assert server.request("GET", "/healthz")[0] == 200


def test_a_body_declared_too_large_is_refused_unread(server: Server) -> None:
    size = limits.BODY_BYTES_MAX + 1
    lines = (f"Content-Length: {size}", "Expect: 100-continue", "Connection: close")
    status, text = exchange(server, head("POST", "/api/v1/spaces/alpha/memories", *lines))
    assert status == 413
    assert "100 Continue" not in text


def test_a_chunked_body_is_taken_and_bounded(server: Server) -> None:
    lines = ("Transfer-Encoding: chunked", "Connection: close")
    start = head("POST", "/api/v1/spaces/alpha/memories", *lines)
    body = b'{"content": "in pieces"}'
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    assert exchange(server, start, chunks, b"0\r\n\r\n")[0] == 201
    block = b"%x\r\n" % (1 << 20) + b" " * (1 << 20) + b"\r\n"
    blocks = limits.BODY_BYTES_MAX // (1 << 20) + 1
    assert exchange(server, start, *[block] * blocks, b"0\r\n\r\n")[0] == 413


def test_the_limit_on_open_files_is_raised_to_what_is_granted(
    tmp_path: Path, start_server: Start
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = 128
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        server = start_server(tmp_path / "data")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for number in range(few // 4 + 1):  # four descriptors each, at least
        assert server.request("PUT", f"/api/v1/spaces/s{number}")[0] == 201


@pytest.mark.parametrize("path", ["/nowhere", "/api/v1/memories/%2F", "/api/v1/recall", "/healthz"])
def test_a_refusal_reaches_whoever_is_still_sending(server: Server, path: str) -> None:
    """Without reading on, closing would reset the connection and the answer would be lost."""
    lines = (f"Content-Length: {1 << 22}", "Connection: close")
    block = b" " * (1 << 20)
    status, text = exchange(server, head("POST", path, *lines), block, block, block, block)
    assert 400 <= status < 500
    assert "application/problem+json" in text


def test_two_header_lines_on_the_wire_are_a_conflict(server: Server) -> None:
    lines = ("X-Memory-Space: alpha", "x-memory-space: alpha", "Connection: close")
    status, text = exchange(server, head("GET", "/api/v1/memories", *lines))
    assert status == 400
    assert "memory-space-conflict" in text


def test_a_client_that_hangs_up_changes_nothing(server: Server) -> None:
    _, before = server.request("GET", "/api/v1/spaces/alpha")
    with closing(connect(server)) as connection:
        connection.sendall(
            head("POST", "/api/v1/spaces/alpha/memories", "Content-Length: 100") + b'{"content": '
        )
    time.sleep(0.2)
    assert server.request("GET", "/api/v1/spaces/alpha")[1] == before


def test_many_callers_at_once(server: Server) -> None:
    """A hundred creators get one space, and all their writes are there with dense positions."""
    statuses: list[int] = []

    def work(number: int) -> None:
        statuses.append(server.request("PUT", "/api/v1/spaces/crowd")[0])
        memory = {"id": f"m{number}", "content": f"memory {number}"}
        assert server.request("POST", "/api/v1/spaces/crowd/memories", memory)[0] == 201

    workers = [threading.Thread(target=work, args=(number,)) for number in range(100)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(statuses) == [200] * 99 + [201]
    _, page = server.request("GET", "/api/v1/spaces/crowd/memories?limit=1000")
    assert len(page["memories"]) == 100
    first = page["memories"][0]["position"]
    assert [m["position"] for m in page["memories"]] == list(range(first, first + 100))


def test_importing_the_server_configures_no_logging() -> None:
    code = (
        "import logging, engram.server.serve; "
        "assert not logging.getLogger().handlers and not logging.getLogger('uvicorn').handlers"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
