from __future__ import annotations

import pytest

from engram.embedding.registry import DEFAULT, dimensions_of, embedder_for
from engram.errors import Invalid
from engram.memory.model import EmbeddingSpec


def test_a_spec_gets_the_embedder_it_names() -> None:
    embedder = embedder_for(DEFAULT)
    assert (embedder.model, embedder.dimensions) == (DEFAULT.model, DEFAULT.dimensions)
    assert embedder_for(EmbeddingSpec(model="wordllama-l2-256", dimensions=256)) is embedder


@pytest.mark.parametrize(
    ("model", "dimensions", "says"),
    [
        ("minilm", 384, "embedding.model: 'minilm' is not known; use one of all-minilm-l6-v2-int8"),
        (
            "all-minilm-l6-v2-int8",
            256,
            "embedding.dimensions: all-minilm-l6-v2-int8 has 384 dimensions, not 256",
        ),
        ("caller", 384, "embedding.model: 'caller' has no embedder"),
        (DEFAULT.model, 64, "embedding.dimensions: wordllama-l2-256 has 256 dimensions, not 64"),
    ],
)
def test_a_spec_that_names_none_is_refused(model: str, dimensions: int, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        embedder_for(EmbeddingSpec(model=model, dimensions=dimensions))
    assert says in caught.value.detail
    assert caught.value.errors


@pytest.mark.parametrize(
    ("model", "dimensions"),
    [(DEFAULT.model, 256), ("all-minilm-l6-v2-int8", 384), ("openai:m", None), ("caller", None)],
)
def test_dimensions_that_a_model_has_are_known(model: str, dimensions: int | None) -> None:
    assert dimensions_of(model) == dimensions
