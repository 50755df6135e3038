"""The embedder of OpenAI-compatible servers, against a real one on loopback that plays its part."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engram
from engram.embedding import openai, post
from engram.embedding.openai import OpenAIEmbedder, Settings
from engram.embedding.registry import embedder_for
from engram.errors import EmbedderMismatch, EmbedderUnavailable, Invalid, SpaceNotFound

DIMENSIONS = 32
KEY = "sk-a-secret-that-nobody-may-see"
MODEL = engram.EmbeddingSpec(model="openai:test-model", dimensions=DIMENSIONS)


def vector_of(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """One count per word, so that texts with the same words are near each other."""
    vector = [0.0] * dimensions
    for word in text.lower().split():
        vector[zlib.crc32(word.encode()) % dimensions] += 1.0
    return vector


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.guard:
            self.server.requests.append((self.path, dict(self.headers), body))
            behave = self.server.script.pop(0) if self.server.script else self.server.always
        behave(self, body)

    def answer(self, status: int, body: object, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


Behaviour = Callable[[Handler, Any], None]


class Server(ThreadingHTTPServer):
    """Plays its script, one behaviour a request, and then `always`."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.guard = threading.Lock()
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.script: list[Behaviour] = []
        self.always: Behaviour = embed
        self.connections: list[socket.socket] = []
        self.released = threading.Event()
        self._serving = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._serving.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def sizes(self) -> list[int]:
        return [len(body["input"]) for _, _, body in self.requests]

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that hangs up is what some tests are about

    def kill(self) -> None:
        """Stop answering at once, on connections that are open too."""
        self.released.set()
        if self._serving.is_alive():
            self.shutdown()
            self._serving.join()
            self.server_close()
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is closed


def embed(handler: Handler, body: Any) -> None:
    vectors = [vector_of(text) for text in body["input"]]
    items = [{"index": i, "embedding": v, "object": "embedding"} for i, v in enumerate(vectors)]
    handler.answer(200, {"object": "list", "data": items, "model": body["model"], "usage": {}})


def says(status: int, body: object, **headers: str) -> Behaviour:
    return lambda handler, _: handler.answer(status, body, **headers)


def gives(*vectors: object) -> Behaviour:
    return says(200, {"data": [{"index": i, "embedding": v} for i, v in enumerate(vectors)]})


def hang_up(handler: Handler, _: Any) -> None:
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def break_off(handler: Handler, _: Any) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"data": [')
    handler.close_connection = True


def stall(handler: Handler, _: Any) -> None:
    handler.server.released.wait(60)


def talk_forever(handler: Handler, _: Any) -> None:
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    while True:  # until the client hangs up
        handler.wfile.write(b" " * 65_536)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that the environment leads to, with a key; waits between tries are none."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or "OPENAI" in name:
            monkeypatch.delenv(name)
    served = Server()
    monkeypatch.setenv(openai.BASE_URL_VARIABLE, served.url)
    monkeypatch.setenv(openai.API_KEY_VARIABLE, KEY)
    monkeypatch.setattr(openai, "FIRST_WAIT_S", 0.0)
    yield served
    served.kill()


@pytest.fixture
def embedder(server: Server) -> OpenAIEmbedder:
    return OpenAIEmbedder("test-model", DIMENSIONS)


def refusal(embedder: OpenAIEmbedder, *texts: str) -> str:
    with pytest.raises(EmbedderUnavailable) as caught:
        embedder.embed(texts or ["the key"])
    error = caught.value
    assert KEY not in f"{error!r} {error} {error.detail} {error.__cause__!r}"
    return error.detail


def test_a_request_says_what_the_protocol_asks_for(
    server: Server, embedder: OpenAIEmbedder
) -> None:
    vectors = embedder.embed(["the key", "lunch"])
    assert vectors.dtype == np.float32
    assert vectors.tolist() == [vector_of("the key"), vector_of("lunch")]
    [(path, headers, body)] = server.requests
    assert path == "/v1/embeddings"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body == {
        "model": "test-model",
        "input": ["the key", "lunch"],
        "encoding_format": "float",
    }


def test_only_models_that_can_shorten_are_told_the_dimensions(
    server: Server, embedder: OpenAIEmbedder
) -> None:
    OpenAIEmbedder("text-embedding-3-small", DIMENSIONS).embed(["x"])
    embedder.embed(["x"])
    assert [body.get("dimensions") for _, _, body in server.requests] == [DIMENSIONS, None]


def test_nothing_is_asked_about_nothing(server: Server, embedder: OpenAIEmbedder) -> None:
    assert embedder.embed([]).shape == (0, DIMENSIONS)
    with pytest.raises(Invalid, match="is empty"):
        embedder.embed(["x", ""])
    assert server.requests == []


MIB = 1 << 20


@pytest.mark.parametrize(
    ("bytes_of_texts", "sizes"),
    [
        ([1] * 256, [256]),
        ([1] * 257, [256, 1]),
        ([1] * 600, [256, 256, 88]),
        ([MIB // 2, MIB // 2], [2]),
        ([MIB // 2, MIB // 2 + 1], [1, 1]),
        ([1, MIB, 1], [1, 1, 1]),
        ([1, MIB + 1, 1, 1], [1, 1, 2]),
        ([MIB], [1]),
    ],
)
def test_texts_go_out_in_bounded_batches_in_order(
    server: Server, embedder: OpenAIEmbedder, bytes_of_texts: list[int], sizes: list[int]
) -> None:
    texts = [("é" * (size // 2) + "x" * (size % 2)) for size in bytes_of_texts]
    vectors = embedder.embed(texts)
    assert server.sizes == sizes
    assert [text for _, _, body in server.requests for text in body["input"]] == texts
    assert vectors.tolist() == [vector_of(text) for text in texts]


def test_vectors_are_put_in_the_order_of_their_indices(
    server: Server, embedder: OpenAIEmbedder
) -> None:
    texts = [f"word{i}" for i in range(10)]
    items = [{"embedding": vector_of(text), "index": i} for i, text in enumerate(texts)]
    server.script = [says(200, {"data": items[::-1]})]
    assert embedder.embed(texts).tolist() == [vector_of(text) for text in texts]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_batch_that_is_too_much_for_the_server_is_halved(
    server: Server, embedder: OpenAIEmbedder, status: int
) -> None:
    def at_most_three(handler: Handler, body: Any) -> None:
        if len(body["input"]) > 3:
            handler.answer(status, {"error": "batch size 10 > maximum allowed batch size 3"})
        else:
            embed(handler, body)

    server.always = at_most_three
    texts = [f"word{i}" for i in range(10)]
    assert embedder.embed(texts).tolist() == [vector_of(text) for text in texts]
    assert server.sizes == [10, 5, 2, 3, 5, 2, 3]


@pytest.mark.parametrize(
    "failure",
    [*(says(status, "busy") for status in sorted(post.PASSING)), hang_up, break_off],
    ids=[*map(str, sorted(post.PASSING)), "hang_up", "break_off"],
)
def test_what_passes_is_tried_again(
    server: Server, embedder: OpenAIEmbedder, failure: Behaviour
) -> None:
    server.script = [failure, failure]
    assert embedder.embed(["the key"]).tolist() == [vector_of("the key")]
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (says(503, {"error": {"message": "loading model"}}), "it answered 503: loading model"),
        (says(429, {"error": "slow down"}), "it answered 429: slow down"),
        (hang_up, "the connection was closed without an answer"),
        (break_off, "the answer broke off"),
    ],
)
def test_after_three_tries_it_is_told(
    server: Server, embedder: OpenAIEmbedder, failure: Behaviour, words: str
) -> None:
    server.always = failure
    detail = refusal(embedder)
    assert f"'openai:test-model' at {server.url} is not available: {words}" in detail
    assert "(tried 3 times)" in detail
    assert len(server.requests) == 3


def test_a_wait_the_server_asks_for_is_kept_if_it_is_short(
    server: Server, embedder: OpenAIEmbedder
) -> None:
    server.script = [says(429, {}, Retry_After="0"), says(503, {}, Retry_After="0")]
    embedder.embed(["x"])
    assert len(server.requests) == 3


def test_a_wait_that_is_too_long_fails_at_once_with_its_advice(
    server: Server, embedder: OpenAIEmbedder
) -> None:
    server.script = [says(429, {"error": {"message": "quota"}}, Retry_After="120")]
    assert refusal(embedder).endswith("it answered 429: quota. Try again in 120 s")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
        ("Wed, 21 Oct 2015 07:28:30 -0000", 30.0),
        ("soon", None),
        ("-1", None),
        ("²", None),
    ],
)
def test_both_forms_of_retry_after_are_read(value: str | None, seconds: float | None) -> None:
    now = datetime(2015, 10, 21, 7, 28, tzinfo=UTC)
    assert post.retry_after_s(value, now) == seconds


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, {"error": {"message": f"Incorrect API key: {KEY}"}}, "Incorrect API key: [secret]"),
        (401, {"error": {"message": "Who?"}}, "answered 401: Who?. Check ENGRAM_OPENAI_API_KEY"),
        (403, {"detail": "Not yours"}, "answered 403: Not yours. Check ENGRAM_OPENAI_API_KEY"),
        (404, {"error": "no such model"}, "Check that the server has the model 'test-model'"),
        (400, {"message": "bad input"}, "answered 400: bad input. Check that 'test-model' makes"),
        (413, {"error": {"message": "512 tokens"}}, "413: 512 tokens. The text is too long"),
        (418, b"<html>\n\n<b>I am\x1b[2J a teapot", "418: <html> <b>I am[2J a teapot. Check"),
        (401, b"", "answered 401: nothing"),
        (401, {"error": {"code": 3}}, '401: {"error": {"code": 3}}'),
        (401, b"x" * 200_000, "x" * 200 + "…"),
        (204, b"", "answered 204"),
    ],
)
def test_a_refusal_fails_at_once_in_the_servers_words(
    server: Server, embedder: OpenAIEmbedder, status: int, body: object, words: str
) -> None:
    server.script = [says(status, body)]
    assert words in refusal(embedder)
    assert len(server.requests) == 1


def test_a_redirect_is_not_followed(server: Server, embedder: OpenAIEmbedder) -> None:
    server.script = [says(308, b"", Location="http://127.0.0.1:1/elsewhere")]
    detail = refusal(embedder)
    assert "308, a redirect" in detail
    assert f"Set {openai.BASE_URL_VARIABLE}" in detail
    assert len(server.requests) == 1


ONE = [1.0] * DIMENSIONS


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (says(200, b"<html>Welcome</html>"), "holds no embeddings (JSON is malformed"),
        (says(200, b'{"data": [{"index": 0, "embe'), "holds no embeddings"),
        (says(200, b""), "holds no embeddings"),
        (says(200, b'{"data": "\xff\xfe"}'), "holds no embeddings"),
        (says(200, {"data": None}), "holds no embeddings"),
        (says(200, {"data": [{"embedding": ONE}]}), "`index`"),
        (gives(ONE), "asked for 2 vectors and gave 1"),
        (gives(ONE, ONE, ONE), "asked for 2 vectors and gave 3"),
        (says(200, {"data": [{"index": 1, "embedding": ONE}] * 2}), "numbered them wrong"),
        (says(200, {"data": [{"index": i, "embedding": ONE} for i in (1, 2)]}), "numbered"),
        (gives(ONE, "AACAPwAAgD8="), "holds no embeddings"),
        (gives(ONE, [*ONE[1:], float("nan")]), "holds no embeddings"),
        (gives(ONE, [*ONE[1:], None]), "holds no embeddings"),
        (gives(ONE, [*ONE[1:], 1e300]), "zero, infinite or not a number"),
        (gives(ONE, [*ONE[1:], 1e30]), "zero, infinite or not a number"),
        (gives(ONE, [0.0] * DIMENSIONS), "zero, infinite or not a number"),
        (gives(ONE, [1e-60] * DIMENSIONS), "zero, infinite or not a number"),
    ],
)
def test_an_answer_that_cannot_be_the_vectors_is_refused(
    server: Server, embedder: OpenAIEmbedder, behaviour: Behaviour, words: str
) -> None:
    server.script = [behaviour]
    assert words in refusal(embedder, "one", "two")
    assert len(server.requests) == 1


@pytest.mark.parametrize("given", [DIMENSIONS - 1, DIMENSIONS + 1, 0])
def test_other_dimensions_are_told_with_both_numbers(
    server: Server, embedder: OpenAIEmbedder, given: int
) -> None:
    server.script = [gives(ONE, [1.0] * given)]
    with pytest.raises(EmbedderMismatch, match=f"of {given} dimensions, not {DIMENSIONS}"):
        embedder.embed(["one", "two"])


def test_an_answer_without_end_is_cut_off(server: Server, embedder: OpenAIEmbedder) -> None:
    server.script = [talk_forever]
    assert "the answer is longer than" in refusal(embedder)


def test_a_slow_server_is_waited_for_once(
    server: Server, embedder: OpenAIEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(openai.TIMEOUT_VARIABLE, "0.2")
    server.always = stall
    assert "no whole answer within 0.2 s" in refusal(embedder)
    assert len(server.requests) == 1


def test_a_server_that_is_not_there_is_named_without_its_password(
    server: Server, embedder: OpenAIEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.kill()
    port = server.server_port
    monkeypatch.setenv(openai.BASE_URL_VARIABLE, f"http://me:{KEY}@127.0.0.1:{port}/v1/")
    detail = refusal(embedder)
    assert f"at http://127.0.0.1:{port}/v1 is not available: connection refused" in detail
    assert "(tried 3 times)" in detail
    assert openai.BASE_URL_VARIABLE in detail


@pytest.mark.skipif(sys.platform != "linux", reason="fills a queue that Linux keeps")
def test_a_server_that_lets_nobody_in_is_tried_again(
    server: Server, embedder: OpenAIEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post, "CONNECT_TIMEOUT_S", 0.05)
    with socket.socket() as listener, socket.socket() as first:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        first.connect(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        monkeypatch.setenv(openai.BASE_URL_VARIABLE, url)
        assert "no connection within 0.05 s (tried 3 times)" in refusal(embedder)


def test_a_host_that_has_no_address_is_told(
    server: Server, embedder: OpenAIEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(openai.BASE_URL_VARIABLE, "http://embedder.invalid/v1")
    assert "at http://embedder.invalid/v1 is not available: " in refusal(embedder)


def test_what_speaks_no_tls_is_told(
    server: Server, embedder: OpenAIEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(openai.BASE_URL_VARIABLE, server.url.replace("http:", "https:"))
    assert "is not available: no trusted connection" in refusal(embedder)


@pytest.mark.parametrize("first_line", [b"220 mail.example ESMTP", b"HTTP/1.1 200 OK"])
def test_what_speaks_no_http_is_told(
    server: Server, embedder: OpenAIEmbedder, first_line: bytes
) -> None:
    def greet(handler: Handler, _: Any) -> None:
        handler.wfile.write(first_line + b"\r\nX-\x1b[2J: \x00\r\n\r\n")
        handler.close_connection = True

    server.script = [greet]
    detail = refusal(embedder)
    assert "no HTTP answer" in detail
    assert detail.isprintable()


def test_what_a_library_quotes_cannot_control_a_terminal(
    server: Server, embedder: OpenAIEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(request: post.Request) -> post.Answer:
        raise post.NotAnswered(f"bad line:\n\x1b[2J{KEY[:5]}\x9b{KEY[5:]}")

    monkeypatch.setattr(post, "post", fail)
    assert "bad line:[2J[secret]. Check" in refusal(embedder)


@pytest.mark.parametrize("url", ["http://..", f"http://{'a' * 64}/v1"])
def test_what_no_host_can_be_called_is_told(
    embedder: OpenAIEmbedder, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv(openai.BASE_URL_VARIABLE, url)
    assert f"{openai.BASE_URL_VARIABLE} must be an http:// or https:// URL" in refusal(embedder)


def test_threads_share_the_loop_and_its_connections(
    server: Server, embedder: OpenAIEmbedder
) -> None:
    texts = [f"word{i} and more" for i in range(64)]
    with ThreadPoolExecutor(16) as pool:
        vectors = list(pool.map(lambda text: embedder.embed([text])[0].tolist(), texts))
    assert vectors == [vector_of(text) for text in texts]
    assert len(server.requests) == 64
    assert len(server.connections) <= 16


def test_credentials_in_the_url_are_sent_where_there_is_no_key(
    server: Server, embedder: OpenAIEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_credentials = server.url.replace("//", "//me:p%40ss@")
    monkeypatch.setenv(openai.BASE_URL_VARIABLE, with_credentials)
    embedder.embed(["x"])
    monkeypatch.delenv(openai.API_KEY_VARIABLE)
    embedder.embed(["x"])
    monkeypatch.setenv(openai.API_KEY_VARIABLE_OF_OTHERS, "another")
    embedder.embed(["x"])
    monkeypatch.setenv(openai.API_KEY_VARIABLE, "")
    monkeypatch.setenv(openai.BASE_URL_VARIABLE, server.url)
    embedder.embed(["x"])
    sent = [headers.get("Authorization") for _, headers, _ in server.requests]
    assert sent == [f"Bearer {KEY}", "Basic bWU6cEBzcw==", "Basic bWU6cEBzcw==", None]


@pytest.mark.parametrize(
    ("base_url", "ours", "expected"),
    [
        ("", None, "Bearer theirs"),
        ("https://api.openai.com/v1", None, "Bearer theirs"),
        ("https://api.openai.com/v1/", None, "Bearer theirs"),
        ("https://api.openai.com/v1", "ours", "Bearer ours"),
        ("https://api.openai.com/v1", "", None),
        ("http://api.openai.com/v1", None, None),
        ("https://api.openai.com.evil.example/v1", None, None),
        ("https://api.openai.com@evil.example/v1", None, "Basic YXBpLm9wZW5haS5jb206"),
        ("http://localhost:11434/v1", None, None),
        ("http://localhost:11434/v1", "ours", "Bearer ours"),
    ],
)
def test_the_key_for_openai_goes_to_openai_alone(
    base_url: str, ours: str | None, expected: str | None
) -> None:
    variables = {openai.BASE_URL_VARIABLE: base_url, openai.API_KEY_VARIABLE_OF_OTHERS: "theirs"}
    if ours is not None:
        variables[openai.API_KEY_VARIABLE] = ours
    assert Settings.of(variables).authorization == expected


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (openai.BASE_URL_VARIABLE, f"ftp://{KEY}@host/"),
        (openai.BASE_URL_VARIABLE, f"{KEY}.example/v1"),
        (openai.BASE_URL_VARIABLE, f"https://host/v1?key={KEY}"),
        (openai.BASE_URL_VARIABLE, "https://host:99999/v1"),
        (openai.BASE_URL_VARIABLE, "https://[::1/v1"),
        (openai.API_KEY_VARIABLE, f"{KEY}\nX-Other: 1"),
        (openai.API_KEY_VARIABLE, f"{KEY}ö"),
        (openai.TIMEOUT_VARIABLE, "soon"),
        (openai.TIMEOUT_VARIABLE, "0"),
        (openai.TIMEOUT_VARIABLE, "nan"),
        (openai.TIMEOUT_VARIABLE, "601"),
        ("http_proxy", f"socks5://me:{KEY}@host"),
    ],
)
def test_a_setting_that_cannot_be_is_named_and_not_shown(
    server: Server,
    embedder: OpenAIEmbedder,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
) -> None:
    monkeypatch.setenv(variable, value)
    assert f"The environment variable {variable.upper()} " in refusal(embedder).replace(
        variable, variable.upper()
    )
    assert server.requests == []


def test_the_defaults_are_openais(server: Server) -> None:
    settings = Settings.of({openai.API_KEY_VARIABLE_OF_OTHERS: KEY})
    assert settings.base_url == "https://api.openai.com/v1"
    assert settings.timeout_s == 30
    assert settings.authorization == f"Bearer {KEY}"
    assert KEY not in repr(settings)


def test_the_environments_proxy_is_used_unless_it_is_told_not_to(
    server: Server, embedder: OpenAIEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(openai.BASE_URL_VARIABLE, "http://embedder.invalid/v1")
    monkeypatch.setenv("http_proxy", f"http://me:pass@127.0.0.1:{server.server_port}")
    embedder.embed(["x"])
    [(path, headers, _)] = server.requests
    assert path == "http://embedder.invalid/v1/embeddings"
    assert headers["Proxy-Authorization"] == "Basic bWU6cGFzcw=="
    assert headers["Authorization"] == f"Bearer {KEY}"
    monkeypatch.setenv("no_proxy", "embedder.invalid")
    assert "at http://embedder.invalid/v1 is not available" in refusal(embedder)
    assert len(server.requests) == 1


def test_a_request_shows_none_of_its_headers() -> None:
    request = post.Request("http://host", {"Authorization": KEY}, b"body", 1.0, 1, 0.0)
    assert repr(request) == "<Request of 4 bytes>"


def a_request(server: Server) -> post.Request:
    body = json.dumps({"model": "test-model", "input": ["x"]}).encode()
    return post.Request(f"{server.url}/embeddings", {}, body, 30.0, MIB, 0.0)


def test_a_loop_that_was_closed_cancels_what_is_under_way_and_takes_no_more(
    server: Server,
) -> None:
    asked = threading.Event()

    def ask_and_stall(handler: Handler, body: Any) -> None:
        asked.set()
        stall(handler, body)

    server.script = [embed, ask_and_stall]
    loop = post._Loop()
    assert loop.run(a_request(server)).status == 200
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(loop.run, a_request(server))
        assert asked.wait(30)
        loop.close()
        with pytest.raises(post.NotAnswered):
            waiting.result(30)
    with pytest.raises(post.NotAnswered, match="the process is ending"):
        loop.run(a_request(server))


def test_a_caller_that_is_interrupted_leaves_no_request_behind(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Future[post.Answer]):
        def result(self, timeout: float | None = None) -> post.Answer:
            raise KeyboardInterrupt

    future = Interrupted()
    loop = post._Loop()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(loop._portal, "start_task_soon", lambda *_: future)
            with pytest.raises(KeyboardInterrupt):
                loop.run(a_request(server))
        assert future.cancelled()
    finally:
        loop.close()


def test_at_exit_the_loop_is_closed_for_good(
    server: Server, embedder: OpenAIEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post, "_loop", None)
    monkeypatch.setattr(post, "_closed", False)
    embedder.embed(["x"])
    post._close()
    post._close()
    assert "the process is ending" in refusal(embedder)


def program(code: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, whose warnings are errors and whose end is waited for."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


LOOKED_UP = """
import sys, threading, os, warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
from engram.embedding.registry import embedder_for
from engram.memory.model import EmbeddingSpec
embedder = embedder_for(EmbeddingSpec(model="openai:test-model", dimensions=32))
"""


@pytest.mark.parametrize(
    "then",
    [
        "assert not {'aiohttp', 'anyio'} & set(sys.modules), 'loaded before it was used'",
        "embedder.embed(['x'])",
        "embedder.embed(['x']); os._exit(0)",
        "embedder.embed(['x'])\nif child := os.fork(): assert os.waitpid(child, 0)[1] == 0\n"
        "embedder.embed(['x'])",
    ],
    ids=["unused", "used", "left in a hurry", "forked"],
)
def test_a_process_ends_cleanly(server: Server, then: str) -> None:
    ended = program(LOOKED_UP + then)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_request_under_way_does_not_hold_up_the_end(server: Server) -> None:
    server.always = stall
    ended = program(
        f"{LOOKED_UP}\n"
        "threading.Thread(target=embedder.embed, args=[['x']], daemon=True).start()\n"
        "from engram.embedding import post\n"
        "while not (post._loop and post._loop._session.connector._acquired): pass\n"
    )
    assert ended.returncode == 0
    assert "Unclosed" not in ended.stderr
    assert not server.released.is_set()


def test_a_space_is_pinned_to_a_server_and_recalls_by_its_vectors(
    server: Server, tmp_path: Path
) -> None:
    with engram.open(tmp_path / "data") as db:
        space = db.create_space("far", embedding=MODEL)
        assert server.sizes == [1]
        space.remember_many(["the deploy key is rotated on monday", "lunch is at noon"])
        answer = space.recall("who rotated the key", mode="similarity")
        assert answer.results[0].memory.content == "the deploy key is rotated on monday"
        assert server.sizes == [1, 2, 1]
    with engram.open(tmp_path / "data") as db:
        space, created = db.ensure_space("far", embedding=MODEL)
        assert not created
        assert space.recall("at noon").results[0].memory.content == "lunch is at noon"


def test_a_server_that_dies_stops_its_spaces_and_no_others(server: Server, tmp_path: Path) -> None:
    with engram.open(tmp_path / "data") as db:
        far = db.create_space("far", embedding=MODEL)
        near = db.create_space("near")
        kept = far.remember("the deploy key")
        position = far.info().position
        server.kill()
        calls: list[Callable[[], object]] = [
            lambda: far.remember("lunch is at noon"),
            lambda: far.remember_many(["one", "two"]),
            lambda: far.revise(kept.id, engram.Changes(content="another key")),
            lambda: far.recall("key", mode="similarity"),
            lambda: far.recall("key"),
        ]
        for call in calls:
            with pytest.raises(EmbedderUnavailable, match="connection refused"):
                call()
        assert far.info().position == position
        assert far.list().memories == (kept,)
        assert far.recall("key", mode="lexical").results[0].memory == kept
        assert far.recall(memory_ids=[kept.id]).results == ()
        assert far.revise(kept.id, engram.Changes(tags=("ops",))).revision == 2
        assert db.ensure_space("far", embedding=MODEL)[1] is False
        near.remember("lunch is at noon")
        assert len(near.recall("lunch").results) == 1


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        (engram.EmbeddingSpec(model="openai:test-model", dimensions=8), EmbedderMismatch, "not 8"),
        (engram.EmbeddingSpec(model="openai:unknown", dimensions=32), EmbedderUnavailable, "404"),
        (engram.EmbeddingSpec(model="openai:", dimensions=32), Invalid, "embedding.model"),
        (engram.EmbeddingSpec(model="openai: x", dimensions=32), Invalid, "embedding.model"),
    ],
)
def test_what_does_not_work_makes_no_space(
    server: Server, tmp_path: Path, spec: engram.EmbeddingSpec, error: type[Exception], words: str
) -> None:
    def only_the_known(handler: Handler, body: Any) -> None:
        if body["model"] == "test-model":
            embed(handler, body)
        else:
            handler.answer(404, {"error": {"message": "no such model"}})

    server.always = only_the_known
    with engram.open(tmp_path / "data") as db:
        with pytest.raises(error, match=words):
            db.create_space("far", embedding=spec)
        with pytest.raises(error, match=words):
            db.ensure_space("far", embedding=spec)
        with pytest.raises(SpaceNotFound):
            db.space("far")
        assert db.spaces() == []
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [".engram"]
    assert list((tmp_path / "data" / ".engram" / "tmp").iterdir()) == []


def test_there_is_one_embedder_per_model_and_dimensions() -> None:
    embedder = embedder_for(MODEL)
    assert embedder_for(engram.EmbeddingSpec(model=MODEL.model, dimensions=DIMENSIONS)) is embedder
    other = embedder_for(engram.EmbeddingSpec(model=MODEL.model, dimensions=8))
    assert (other.model, other.dimensions) == (MODEL.model, 8)
