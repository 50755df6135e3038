"""Summaries by a model of a server of OpenAI's protocol: POST {base_url}/chat/completions.

Which model it is, if any, is a matter of the environment, as is where the server is and how to get
in (`openai`), read whenever a space consolidates. What the model writes is not traced to single
notes, so the whole of it is said to rest on every note that was sent. An answer is checked before
it is believed; what cannot be the content of a memory is none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import msgspec

from engram.cognition.summaries import Summary
from engram.embedding.openai import (
    PREFIX,
    SPEAKS,
    Server,
    Settings,
    check_model,
    environment,
    shortened,
)
from engram.errors import EmbedderUnavailable, Invalid, Unavailable
from engram.memory.validate import check_content
from wal.decoding import decoder_of

VARIABLE: Final = "ENGRAM_SUMMARISER"
ASKED: Final = (
    "The user sends numbered notes, in order of time. Write what these notes say in common and in "
    "order, in at most four sentences: only what they say, and nothing else."
)
NOTES_BYTES_MAX: Final = 64 << 10
"""Of all notes together, in UTF-8."""
CONTENT_CHARACTERS_MAX: Final = 4_000
ANSWER_BYTES_MAX: Final = 1 << 20
_CUT: Final = "…"


class OpenAISummariser:
    """The model `name` of the server that the environment leads to, asked anew for each belief."""

    def __init__(self, name: str) -> None:
        """Raises Invalid for what cannot be a model's name."""
        self._model = check_model(VARIABLE, name, "gpt-4o-mini")
        self.name: Final = PREFIX + name

    def summarise(self, texts: Sequence[tuple[int, str]]) -> Summary:
        """What the model makes of texts in order of time, each with the number of its source.

        Raises Unavailable if the server does not answer, refuses, or answers with no usable text.
        """
        server = Server(
            f"summariser {self.name!r}", self._model, "answers chats", Unavailable, _settings()
        )
        notes = _cut_evenly([text.strip() for _, text in texts])
        body: dict[str, object] = {
            "model": self._model,
            "messages": [
                {"role": "system", "content": ASKED},
                {
                    "role": "user",
                    "content": "\n\n".join(f"{n}. {note}" for n, note in enumerate(notes, 1)),
                },
            ],
            "temperature": 0,
        }
        answer = server.ask("chat/completions", body, ANSWER_BYTES_MAX)
        if answer.status != 200:
            raise server.refused(answer)
        content = _content(server, answer.body)
        return Summary(content, tuple((number, 0, len(content)) for number, _ in texts))


def configured(variables: Mapping[str, str] | None = None) -> OpenAISummariser | None:
    """The summariser that the environment names, None if it names none. Raises Invalid for what
    names no summariser.
    """
    given = (os.environ if variables is None else variables).get(VARIABLE, "").strip()
    if not given:
        return None
    if not given.startswith(PREFIX):
        # Its value is not shown: a key may have got there by mistake.
        raise Invalid.of(
            VARIABLE,
            f"this environment variable must be {PREFIX}<model of a server>, or not be set",
        )
    return OpenAISummariser(given.removeprefix(PREFIX))


def _settings() -> Settings:
    try:
        return environment()
    except EmbedderUnavailable as error:
        raise Unavailable(error.detail) from None


def _cut_evenly(texts: Sequence[str]) -> list[str]:
    """Texts that have NOTES_BYTES_MAX together: those that are longer than their share are cut to
    it, and what shorter ones leave of theirs is shared by the others.
    """
    left, share = NOTES_BYTES_MAX, NOTES_BYTES_MAX
    sizes = sorted(len(text.encode()) for text in texts)
    for number, size in enumerate(sizes):
        share = left // (len(sizes) - number)
        if size > share:
            break
        left, share = left - size, NOTES_BYTES_MAX
    return [_cut(text, share) for text in texts]


def _cut(text: str, bytes_max: int) -> str:
    data = text.encode()
    if len(data) <= bytes_max:
        return text
    return data[: bytes_max - len(_CUT.encode())].decode(errors="ignore") + _CUT


class _Message(msgspec.Struct):
    content: str


class _Choice(msgspec.Struct):
    message: _Message


class _Chat(msgspec.Struct):
    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]


def _content(server: Server, body: bytes) -> str:
    """What the model wrote, as the content of a memory."""
    try:
        written = decoder_of(_Chat).decode(body).choices[0].message.content.strip()
        if len(written) > CONTENT_CHARACTERS_MAX:
            written = written[: CONTENT_CHARACTERS_MAX - len(_CUT)].rstrip() + _CUT
        return check_content("content", written)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = f"its answer holds no text ({error}): {shortened(body)}"
        raise server.unavailable(reason, SPEAKS) from None
    except Invalid as error:
        reason = f"its answer cannot be remembered ({error.detail})"
        advice = f"Check that {server.model!r} {server.task}"
        raise server.unavailable(reason, advice) from None
