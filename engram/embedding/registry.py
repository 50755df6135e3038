"""From a space's embedding spec to the embedder that serves it.

There is one embedder per model and process, so that its tables are loaded once however many spaces
use it. Looking one up loads nothing and asks nobody: files are read, and servers asked, when the
first text comes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from engram.embedding import minilm, openai, static
from engram.embedding.minilm import MiniLMEmbedder
from engram.embedding.openai import OpenAIEmbedder
from engram.embedding.protocol import Embedder
from engram.embedding.static import StaticEmbedder
from engram.errors import Invalid
from engram.memory.model import EmbeddingSpec
from engram.memory.validate import CALLER

DEFAULT: Final = EmbeddingSpec(model=static.MODEL, dimensions=static.DIMENSIONS)
"""What a space gets that asks for nothing."""

_EMBEDDERS: Final[dict[str, Embedder]] = {
    static.MODEL: StaticEmbedder(),
    minilm.MODEL: MiniLMEmbedder(),
}
PACKAGED: Final = tuple(sorted(_EMBEDDERS))
"""The models that packages carry."""
KNOWN: Final = ", ".join([*PACKAGED, f"{openai.PREFIX}<model of a server>"])
"""The models there are, for messages."""

# Names that servers know are requests' to choose; as many embedders as spaces use are kept, and not
# one for every name that was ever tried.
_SERVED_MAX: Final = 256


def dimensions_of(model: str) -> int | None:
    """How many dimensions a model has; None where that is for whoever creates a space to say."""
    embedder = _EMBEDDERS.get(model)
    return None if embedder is None else embedder.dimensions


def is_known(model: str) -> bool:
    """Whether there may be an embedder of that name; a server may know any."""
    return model in _EMBEDDERS or model.startswith(openai.PREFIX)


def embedder_for(spec: EmbeddingSpec) -> Embedder:
    """The embedder a spec names.

    Raises Invalid for a model that is not known, for dimensions a known one does not have, and for
    the model "caller", whose vectors come with the memories and need no embedder.
    """
    if spec.model.startswith(openai.PREFIX):
        return _served(spec.model.removeprefix(openai.PREFIX), spec.dimensions)
    embedder = _EMBEDDERS.get(spec.model)
    if embedder is None:
        if spec.model == CALLER:
            raise Invalid.of("embedding.model", f"{CALLER!r} has no embedder; those are {KNOWN}")
        raise Invalid.of(
            "embedding.model", f"{spec.model!r} is not known; use one of {KNOWN}, or {CALLER}"
        )
    if embedder.dimensions != spec.dimensions:
        raise Invalid.of(
            "embedding.dimensions",
            f"{spec.model} has {embedder.dimensions} dimensions, not {spec.dimensions}",
        )
    return embedder


@lru_cache(_SERVED_MAX)
def _served(name: str, dimensions: int) -> OpenAIEmbedder:
    return OpenAIEmbedder(name, dimensions)
