"""The default embedder: the mean of static token vectors, scaled to unit length.

Theory of operation. The wordllama package (Miller 2024) carries a table of 32,000 token vectors of
256 dimensions, distilled from the input embeddings of large language models, and the Llama 2
tokeniser. Only these two files are read, never the package's code: importing it costs 300 ms and
reconfigures logging, and its own pooling pads every batch to its longest text. Their checksums are
pinned here, since a space's vectors must mean the same for as long as it lives; another version of
the files is refused instead of silently mixing vectors.

The tokeniser is a byte-pair encoding in which a space only ever begins a token. Text can therefore
be cut at its spaces and encoded piece by piece, with the same tokens as a whole; pieces repeat, so
their tokens are cached, which makes embedding several times faster than encoding every text. The
table is summed in bounded blocks, each text by itself: memory stays small whatever the length, and
a text's vector is the same, bit for bit, alone or in a batch. (No thread pool is involved:
`Tokenizer.encode` runs in the calling thread.)

Files and checksums are loaded once per process, when the first text is embedded. A failure is
reported and not remembered: the next call tries again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from engram.embedding.packaged import Packaged, PinnedFile, folder_of, pinned
from engram.errors import EmbedderUnavailable, Invalid

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MODEL: Final = "wordllama-l2-256"
DIMENSIONS: Final = 256
PACKAGE: Final = "wordllama"
PACKAGE_VERSION: Final = "0.4.0.post1"

WEIGHTS: Final = PinnedFile("weights/l2_supercat_256.safetensors", 0x1E47A5E0)
TOKENIZER: Final = PinnedFile("tokenizers/l2_supercat_tokenizer_config.json", 0x4F2CF049)

SPACE_TOKEN: Final = 29_871
"""The token of a space with no word after it."""

PIECE_CHARACTERS_MAX: Final = 32
CACHED_PIECES_MAX: Final = 1 << 16
# The tokeniser needs some 200 bytes a character; longer pieces, which are no words, are cut.
ENCODED_CHARACTERS_MAX: Final = 1 << 14
# Token vectors gathered and added up in float32 at a time: 1 MiB; blocks are added in float64.
TOKENS_PER_BLOCK: Final = 1_024

_PIECES: Final = re.compile(" +[^ ]*")


class StaticEmbedder(Packaged[tuple[npt.NDArray[np.float32], "_PieceTokens"]]):
    """Mean of token vectors. `package` is where the files are looked for."""

    model: Final = MODEL
    dimensions: Final = DIMENSIONS

    def __init__(self, package: str = PACKAGE) -> None:
        super().__init__()
        self._package = package

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit vectors, float32 (n, 256).

        Raises EmbedderUnavailable where the model's files are missing or not the pinned ones, and
        Invalid for an empty text.
        """
        table, tokens_of = self._loaded or self._load()
        sums = np.zeros((len(texts), DIMENSIONS), np.float64)
        for row, text in enumerate(texts):
            tokens = np.frombuffer(b"".join(map(tokens_of.__getitem__, _pieces(text))), np.uint16)
            if not len(tokens):
                raise Invalid.of("text", "is empty; there is nothing to embed")
            for first in range(0, len(tokens), TOKENS_PER_BLOCK):
                block = table[tokens[first : first + TOKENS_PER_BLOCK]]
                sums[row] += np.add.reduce(block, axis=0)
        lengths = np.sqrt(np.vecdot(sums, sums))
        if not lengths.all():
            raise Invalid.of("text", "has tokens that cancel out; it has no direction to embed")
        sums /= lengths[:, np.newaxis]
        return sums.astype(np.float32)

    def _unavailable(self, reason: str) -> EmbedderUnavailable:
        return EmbedderUnavailable(
            f"The embedder {MODEL!r} is not available: {reason}. "
            f"Reinstall it with: pip install --force-reinstall {PACKAGE}=={PACKAGE_VERSION}"
        )

    def _read(self) -> tuple[npt.NDArray[np.float32], _PieceTokens]:
        # Imported here because a server of caller-supplied vectors needs none of it.
        from safetensors.numpy import load
        from tokenizers import Tokenizer

        folder = folder_of(self._package)
        table = load(pinned(folder, WEIGHTS))["embedding.weight"].astype(np.float32)
        tokenizer = Tokenizer.from_buffer(pinned(folder, TOKENIZER))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        # Text is never syntax: "<s>" in a memory is three characters.
        tokenizer.encode_special_tokens = True
        return table, _PieceTokens(tokenizer)


class _PieceTokens(dict[str, bytes]):
    """Piece of text -> its tokens, uint16 end to end; fills itself, starts afresh when full."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._tokenizer = tokenizer

    def __missing__(self, piece: str) -> bytes:
        if len(piece) > ENCODED_CHARACTERS_MAX:
            cuts = range(0, len(piece), ENCODED_CHARACTERS_MAX)
            return b"".join(self[piece[cut : cut + ENCODED_CHARACTERS_MAX]] for cut in cuts)
        # Nothing is put in front of nothing: a piece that was a single space is looked up.
        ids = self._tokenizer.encode(piece, add_special_tokens=False).ids or [SPACE_TOKEN]
        tokens = np.array(ids, np.uint16).tobytes()
        if len(piece) <= PIECE_CHARACTERS_MAX:
            if len(self) >= CACHED_PIECES_MAX:
                self.clear()
            self[piece] = tokens
        return tokens


def _pieces(text: str) -> list[str]:
    """Cut text before each run of spaces that precedes a word, and drop one space of each run.

    The tokeniser puts that one back in front of whatever it is given. It also writes spaces as
    U+2581, so that one is a space to begin with.
    """
    text = text.replace("\u2581", " ")
    if not text:
        return []
    if "  " in text or text[0] == " " or text[-1] == " ":
        return [piece[1:] for piece in _PIECES.findall(f" {text}")]
    return text.split(" ")
