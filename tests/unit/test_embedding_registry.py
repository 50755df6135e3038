from __future__ import annotations

import pytest

from engram.embedding.registry import DEFAULT, embedder_for
from engram.errors import Invalid
from engram.memory.model import EmbeddingSpec


def test_a_spec_gets_the_embedder_it_names() -> None:
    embedder = embedder_for(DEFAULT)
    assert (embedder.model, embedder.dimensions) == (DEFAULT.model, DEFAULT.dimensions)
    assert embedder_for(EmbeddingSpec(model="wordllama-l2-256", dimensions=256)) is embedder


@pytest.mark.parametrize(
    ("model", "dimensions", "says"),
    [
        ("minilm", 384, "embedding.model: 'minilm' is not known; use one of wordllama-l2-256"),
        ("caller", 384, "embedding.model: 'caller' has no embedder"),
        (DEFAULT.model, 64, "embedding.dimensions: wordllama-l2-256 has 256 dimensions, not 64"),
    ],
)
def test_a_spec_that_names_none_is_refused(model: str, dimensions: int, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        embedder_for(EmbeddingSpec(model=model, dimensions=dimensions))
    assert says in caught.value.detail
    assert caught.value.errors
