"""The embedder for servers that speak OpenAI's protocol: POST {base_url}/embeddings.

Theory of operation. A space names the model (`openai:text-embedding-3-small`) and its dimensions;
where the server is and how to get in is a matter of the environment, read at every call, so that a
data root can move to another machine or key. Texts go out in batches, in order; a batch that the
server refuses for what it holds is asked for again in halves, because servers bound their requests
differently. Nothing of an answer is believed before it was checked: how many vectors, which
text each is for, how many numbers, and that they are numbers with a direction.

That the same name means the same vectors tomorrow is the server's promise; we cannot see it broken.
A secret (the key, credentials in a URL) appears in no error: whatever the server says is searched
for it before it is shown.
"""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import msgspec
import numpy as np
import numpy.typing as npt

from engram import limits
from engram.errors import EmbedderMismatch, EmbedderUnavailable, EngramError, Invalid
from wal.decoding import decoder_of

if TYPE_CHECKING:
    from engram.embedding.post import Answer

PREFIX: Final = "openai:"

BASE_URL_VARIABLE: Final = "ENGRAM_OPENAI_BASE_URL"
API_KEY_VARIABLE: Final = "ENGRAM_OPENAI_API_KEY"
API_KEY_VARIABLE_OF_OTHERS: Final = "OPENAI_API_KEY"
TIMEOUT_VARIABLE: Final = "ENGRAM_OPENAI_TIMEOUT_S"
BASE_URL_DEFAULT: Final = "https://api.openai.com/v1"
TIMEOUT_S_DEFAULT: Final = 30.0
TIMEOUT_S_MAX: Final = 600.0
FIRST_WAIT_S: Final = 0.5

MODEL_CHARACTERS_MAX: Final = 200
TEXTS_PER_REQUEST_MAX: Final = 256
TEXT_BYTES_PER_REQUEST_MAX: Final = 1 << 20
BYTES_PER_NUMBER_MAX: Final = 32
"""A float64 has up to 24 characters in JSON; the rest is for separators and indentation."""
ANSWER_OVERHEAD_BYTES: Final = 1 << 20

TAKES_DIMENSIONS: Final = "text-embedding-3-"
"""Models by this name shorten their vectors on request; servers of others refuse the parameter."""
DIVISIBLE: Final = frozenset({400, 413, 422})
"""How servers say that a request holds too many texts, or one that is too long."""
LENGTH_MIN, LENGTH_MAX = 1e-18, 1e18
"""Beyond these, the square of a vector's length does not fit a float32."""

SPEAKS: Final = f"Check that {BASE_URL_VARIABLE} leads to an OpenAI-compatible server"
PROBE: Final = "Is anybody there?"
MESSAGE_CHARACTERS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the server is, and how to speak to it. `base_url` holds no credentials."""

    base_url: str
    authorization: str | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    timeout_s: float = TIMEOUT_S_DEFAULT
    proxy: str | None = None
    proxy_authorization: str | None = field(default=None, repr=False)
    first_wait_s: float = FIRST_WAIT_S

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> Settings:
        """From the environment. Raises EmbedderUnavailable naming the variable that is wrong."""
        given = variables.get(BASE_URL_VARIABLE, "").strip() or BASE_URL_DEFAULT
        base_url, basic, secrets = _without_credentials(BASE_URL_VARIABLE, given)
        # The key meant for OpenAI goes to OpenAI alone. Ours counts even when it is empty.
        name = API_KEY_VARIABLE
        if API_KEY_VARIABLE not in variables and base_url == BASE_URL_DEFAULT:
            name = API_KEY_VARIABLE_OF_OTHERS
        key = variables.get(name, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise _unusable(name, "holds a character that no key has")
        proxy, proxy_basic, proxy_secrets = _proxy_for(base_url)
        return cls(
            base_url=base_url,
            authorization=f"Bearer {key}" if key else basic,
            secrets=tuple(secret for secret in (key, *secrets, *proxy_secrets) if secret),
            timeout_s=_timeout_s(variables.get(TIMEOUT_VARIABLE, "")),
            proxy=proxy,
            proxy_authorization=proxy_basic,
            first_wait_s=FIRST_WAIT_S,
        )


def environment() -> Settings:
    return Settings.of(os.environ)


@dataclass(frozen=True, slots=True)
class Server:
    """Where a model is asked for something. `what` names who asks in errors, `error` is their kind,
    and `task` what the model must be able to do.
    """

    what: str
    model: str
    task: str
    error: type[EngramError]
    settings: Settings

    def ask(self, path: str, body: Mapping[str, object], answer_bytes_max: int) -> Answer:
        """Post to `{base_url}/{path}`; the answer, whatever its status. Raises `error`."""
        # Imported here because who uses no such model needs no HTTP client.
        from engram.embedding.post import NotAnswered, Request, post

        settings = self.settings
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "engram",
        }
        if settings.authorization is not None:
            headers["Authorization"] = settings.authorization
        proxy_headers = None
        if settings.proxy_authorization is not None:
            # A tunnel's proxy reads its own request; otherwise it reads the server's.
            proxy_headers = {"Proxy-Authorization": settings.proxy_authorization}
            if settings.base_url.startswith("http:"):
                headers |= proxy_headers
        request = Request(
            url=f"{settings.base_url}/{path}",
            headers=headers,
            body=msgspec.json.encode(body),
            timeout_s=settings.timeout_s,
            answer_bytes_max=answer_bytes_max,
            first_wait_s=settings.first_wait_s,
            proxy=settings.proxy,
            proxy_headers=proxy_headers,
        )
        try:
            return post(request)
        except NotAnswered as error:
            reason, advice = str(error), f"Check that it runs, and {BASE_URL_VARIABLE}"
            # Not chained: the errors of a library may quote what is secret.
            raise self.unavailable(reason, advice) from None

    def refused(self, answer: Answer) -> EngramError:
        """The error for an answer that is no success, with the server's own words."""
        reason = f"it answered {answer.status}: {_message(answer.body)}"
        if answer.tries > 1:
            reason += f" (tried {answer.tries} times)"
        advice = f"Check {BASE_URL_VARIABLE}"
        if answer.status in {401, 403}:
            advice = f"Check {API_KEY_VARIABLE}"
        elif answer.status == 404:
            advice = f"Check that the server has the model {self.model!r}, and {BASE_URL_VARIABLE}"
        elif answer.status == 413:
            advice = "The text is too long for the server: shorten it, or raise the server's limit"
        elif answer.status in DIVISIBLE:
            advice = f"Check that {self.model!r} {self.task} and can take a text this long"
        elif answer.retry_after_s is not None:
            advice = f"Try again in {answer.retry_after_s:.0f} s"
        elif answer.status == 429 or answer.status >= 500:
            advice = "Try again later"
        elif answer.location is not None:
            reason = f"it answered {answer.status}, a redirect, which is not followed"
            advice = f"Set {BASE_URL_VARIABLE} to where the server is"
        return self.unavailable(reason, advice)

    def unavailable(self, reason: str, advice: str) -> EngramError:
        # Libraries quote what they cannot read. This comes first: it may make a secret whole.
        reason = "".join(character for character in reason if character.isprintable())
        for secret in self.settings.secrets:
            reason = reason.replace(secret, "[secret]")
        return self.error(
            f"The {self.what} at {self.settings.base_url} is not available: {reason}. {advice}"
        )


def check_model(field: str, name: str, example: str) -> str:
    """A model's name, without the prefix. Raises Invalid for what cannot be one."""
    fits = 1 <= len(name) <= MODEL_CHARACTERS_MAX
    if not fits or not name.isprintable() or name.strip() != name:
        raise Invalid.of(
            field,
            f"{PREFIX!r} is followed by the model's name at its server, as in "
            f"{PREFIX}{example}: 1 to {MODEL_CHARACTERS_MAX} printable characters",
        )
    return name


class OpenAIEmbedder:
    """The model `name` of whatever server `settings` lead to, asked anew at every call."""

    def __init__(
        self, name: str, dimensions: int, settings: Callable[[], Settings] = environment
    ) -> None:
        """Raises Invalid for what cannot be a model's name."""
        self._name = check_model("embedding.model", name, "text-embedding-3-small")
        self._settings = settings
        self.model: Final = PREFIX + name
        self.dimensions: Final = dimensions

    def check(self) -> None:
        """Embed a short text, and so try the server, the key, the model and its dimensions."""
        self.embed([PROBE])

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors as the server makes them, float32 (n, dimensions), of any length but zero.

        Raises EmbedderUnavailable if the server does not answer, refuses, or answers what cannot
        be vectors of these texts; EmbedderMismatch if they have other dimensions; Invalid for an
        empty text.
        """
        if not all(texts):
            raise Invalid.of("text", "is empty; there is nothing to embed")
        what = f"embedder {self.model!r}"
        server = Server(what, self._name, "makes embeddings", EmbedderUnavailable, self._settings())
        rows = [np.empty((0, self.dimensions), np.float32)]
        for batch in _batches(texts):
            rows.extend(self._rows(server, batch))
        return np.concatenate(rows)

    def _rows(self, server: Server, batch: Sequence[str]) -> Iterator[npt.NDArray[np.float32]]:
        answer = self._ask(server, batch)
        if answer.status in DIVISIBLE and len(batch) > 1:
            middle = len(batch) // 2
            yield from self._rows(server, batch[:middle])
            yield from self._rows(server, batch[middle:])
        elif answer.status != 200:
            raise server.refused(answer)
        else:
            yield self._vectors(server, answer.body, len(batch))

    def _ask(self, server: Server, batch: Sequence[str]) -> Answer:
        body: dict[str, object] = {
            "model": self._name,
            "input": list(batch),
            "encoding_format": "float",
        }
        if self._name.startswith(TAKES_DIMENSIONS):
            body["dimensions"] = self.dimensions
        # Room for any number of dimensions, so that a wrong one is told as what it is.
        numbers_max = len(batch) * limits.DIMENSIONS_MAX
        bytes_max = numbers_max * BYTES_PER_NUMBER_MAX + ANSWER_OVERHEAD_BYTES
        return server.ask("embeddings", body, bytes_max)

    def _vectors(self, server: Server, body: bytes, count: int) -> npt.NDArray[np.float32]:
        """The rows of an answer in the order of the texts, checked."""
        try:
            items = decoder_of(_Embeddings).decode(body).data
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            reason = f"its answer holds no embeddings ({error}): {shortened(body)}"
            raise server.unavailable(reason, SPEAKS) from None
        if sorted(item.index for item in items) != list(range(count)):
            reason = (
                f"it was asked for {count} vectors and gave {len(items)}, or numbered them wrong"
            )
            raise server.unavailable(reason, SPEAKS)
        vectors = np.empty((count, self.dimensions), np.float32)
        for item in items:
            if len(item.embedding) != self.dimensions:
                raise EmbedderMismatch(
                    f"the embedder {self.model!r} at {server.settings.base_url} makes vectors of "
                    f"{len(item.embedding)} dimensions, not {self.dimensions}. Create the space "
                    "with as many, or have the server serve the model the space was made with"
                )
            with np.errstate(over="ignore"):  # an infinity is refused below
                vectors[item.index] = item.embedding
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        if not ((lengths > LENGTH_MIN) & (lengths < LENGTH_MAX)).all():
            reason = "it gave a vector that is zero, infinite or not a number"
            raise server.unavailable(reason, "Look at the server's log")
        return vectors


class _Embedding(msgspec.Struct):
    index: int
    embedding: list[float]


class _Embeddings(msgspec.Struct):
    data: list[_Embedding]


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut into requests, in order; a text that fills one by itself is sent alone."""
    first, size = 0, 0
    for index, text in enumerate(texts):
        text_bytes = len(text.encode())
        full = index - first == TEXTS_PER_REQUEST_MAX
        if index > first and (full or size + text_bytes > TEXT_BYTES_PER_REQUEST_MAX):
            yield texts[first:index]
            first, size = index, 0
        size += text_bytes
    if first < len(texts):
        yield texts[first:]


def _message(body: bytes) -> str:
    """What a server says in one of the shapes they use, or the beginning of what it sent."""
    said: object = None
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass  # a page for people
    while isinstance(said, dict):
        said = next((said[key] for key in ("error", "message", "detail") if said.get(key)), None)
    return shortened(said.encode() if isinstance(said, str) else body)


def shortened(body: bytes) -> str:
    """The beginning of a text on one line, without what a terminal would obey."""
    text = body[: MESSAGE_CHARACTERS_MAX * 8].decode(errors="replace")
    line = "".join(c for c in " ".join(text.split()) if c.isprintable())
    if len(line) > MESSAGE_CHARACTERS_MAX:
        line = line[:MESSAGE_CHARACTERS_MAX] + "…"
    return line or "nothing"


def _without_credentials(variable: str, given: str) -> tuple[str, str | None, tuple[str, ...]]:
    """A server's URL without user and password, these as a header, and what of them is secret."""
    try:
        parts = urlsplit(given)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        (parts.hostname or "").encode("idna")  # as the system is asked for its address
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        # Its value is not shown: it may hold a password wherever it was mistyped.
        raise _unusable(
            variable,
            "must be an http:// or https:// URL without '?' and '#', with a valid host and port",
        )
    userinfo, _, host = parts.netloc.rpartition("@")
    url = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
    if not userinfo:
        return url, None, ()
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    encoded = base64.b64encode(pair.encode()).decode()
    return url, f"Basic {encoded}", (userinfo, encoded, unquote(parts.password or ""))


def _proxy_for(base_url: str) -> tuple[str | None, str | None, tuple[str, ...]]:
    """The proxy that the environment names for a URL, in the same parts."""
    parts = urlsplit(base_url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc):
        return None, None, ()
    return _without_credentials(f"{parts.scheme.upper()}_PROXY", proxy)


def _timeout_s(given: str) -> float:
    if not given.strip():
        return TIMEOUT_S_DEFAULT
    try:
        timeout_s = float(given)
    except ValueError:
        timeout_s = math.nan
    if not 0 < timeout_s <= TIMEOUT_S_MAX:
        raise _unusable(
            TIMEOUT_VARIABLE, f"must be seconds, more than 0, at most {TIMEOUT_S_MAX:g}"
        )
    return timeout_s


def _unusable(variable: str, problem: str) -> EmbedderUnavailable:
    return EmbedderUnavailable(f"The environment variable {variable} {problem}. Correct it")
