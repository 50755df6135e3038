from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from engram.embedding import static
from engram.embedding.registry import DEFAULT, embedder_for
from engram.embedding.static import StaticEmbedder
from engram.errors import EmbedderUnavailable, Invalid

embedder = StaticEmbedder()
texts = st.one_of(
    st.text(min_size=1, max_size=50),
    st.text("ab  ▁\n\té日🎉<s>0.", min_size=1, max_size=50),
)


@pytest.fixture(scope="module")
def package() -> Path:
    spec = find_spec(static.PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0])


@pytest.fixture(scope="module")
def tokenizer(package: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(package / static.TOKENIZER.path))
    tokenizer.encode_special_tokens = True
    return tokenizer


def test_vectors_are_the_ones_the_name_stands_for() -> None:
    vectors = embedder.embed(["The deploy key is rotated every Monday", "日本語  <s> ▁x "])
    assert vectors.shape == (2, 256)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(
        vectors[0, :4], [0.0710649, 0.0327269, 0.0160327, 0.1432319], rtol=1e-5
    )
    np.testing.assert_allclose(
        vectors[1, :4], [-0.0847279, 0.0525060, -0.0141596, -0.1424243], rtol=1e-5
    )


def test_similar_texts_are_closer_than_others() -> None:
    one, two, other = embedder.embed(
        ["When is the key rotated?", "The key rotates on Mondays", "He likes strawberry cake"]
    )
    assert one @ two > one @ other + 0.2


@settings(deadline=None)
@given(texts)
@example("a▁ ")
def test_tokens_by_pieces_are_the_tokens_of_the_whole(tokenizer: Tokenizer, text: str) -> None:
    _, tokens_of = embedder._load()
    pieces = b"".join(tokens_of[piece] for piece in static._pieces(text))
    whole = tokenizer.encode(text, add_special_tokens=False).ids
    assert np.frombuffer(pieces, np.uint16).tolist() == whole


@settings(deadline=None)
@given(st.lists(texts, min_size=1, max_size=6))
def test_a_vector_does_not_depend_on_its_batch(texts: list[str]) -> None:
    batch = embedder.embed(texts)
    assert np.isfinite(batch).all()
    np.testing.assert_allclose(np.linalg.norm(batch, axis=1), 1, rtol=1e-6)
    for text, vector in zip(texts, batch, strict=True):
        assert embedder.embed([text])[0].tobytes() == vector.tobytes()


def test_blocks_add_up_to_the_mean_of_all_tokens(tokenizer: Tokenizer) -> None:
    text = " ".join(f"word{number} is number {number}" for number in range(3000))
    tokens = tokenizer.encode(text, add_special_tokens=False).ids
    assert len(tokens) > 5 * static.TOKENS_PER_BLOCK
    table, _ = embedder._load()
    mean = table[tokens].astype(np.float64).mean(axis=0)
    expected = mean / np.linalg.norm(mean)
    np.testing.assert_allclose(embedder.embed([text])[0], expected, atol=5e-6)


@pytest.mark.parametrize("text", ["x" * (1 << 20), "no more than this " * 58_254])
def test_a_text_of_the_largest_size_embeds(text: str) -> None:
    assert np.isfinite(embedder.embed([text, "short"])).all()


def test_pieces_that_are_no_words_are_encoded_in_parts(tokenizer: Tokenizer) -> None:
    _, tokens_of = embedder._load()
    part = "0f" * (static.ENCODED_CHARACTERS_MAX // 2)
    ids = tokenizer.encode(part, add_special_tokens=False).ids
    assert np.frombuffer(tokens_of[part * 3], np.uint16).tolist() == ids * 3


def test_nothing_gives_nothing() -> None:
    assert embedder.embed([]).shape == (0, 256)


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(Invalid, match="nothing to embed"):
        embedder.embed(["something", ""])


def test_a_text_without_direction_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    table, tokens_of = embedder._load()
    pointless = StaticEmbedder()
    monkeypatch.setattr(pointless, "_loaded", (np.zeros_like(table), tokens_of))
    with pytest.raises(Invalid, match="no direction"):
        pointless.embed(["key"])


def test_a_full_cache_starts_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"piece{number} and another" for number in range(50)]
    expected = embedder.embed(texts).tobytes()
    monkeypatch.setattr(static, "CACHED_PIECES_MAX", 5)
    fresh = StaticEmbedder()
    assert fresh.embed(texts).tobytes() == expected
    assert fresh.embed(texts).tobytes() == expected
    assert len(fresh._load()[1]) <= 5


def test_it_is_loaded_once_however_many_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = StaticEmbedder()
    read, calls = fresh._read, []
    gate = threading.Barrier(6)

    def counted() -> object:
        calls.append(1)
        return read()

    def ask(text: str) -> bytes:
        gate.wait()
        return fresh.embed([text]).tobytes()

    monkeypatch.setattr(fresh, "_read", counted)
    with ThreadPoolExecutor(6) as pool:
        vectors = list(pool.map(ask, ["the key"] * 6))
    assert len(calls) == 1
    assert len(set(vectors)) == 1


def test_neither_the_package_nor_logging_is_touched() -> None:
    program = """
import json, logging, sys
from engram.embedding.registry import DEFAULT, embedder_for
embedder = embedder_for(DEFAULT)
before = [name for name in ("tokenizers", "safetensors") if name in sys.modules]
embedder.embed(["the key"])
print(json.dumps([before, "wordllama" in sys.modules, len(logging.root.handlers)]))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert json.loads(run.stdout) == [[], False, 0]


@pytest.fixture
def copied(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of another name with the same files."""
    folder = tmp_path / "copied_llama"
    for name, _ in (static.WEIGHTS, static.TOKENIZER):
        (folder / name).parent.mkdir(parents=True)
        shutil.copy(package / name, folder / name)
    (folder / "__init__.py").write_text("raise ImportError('never to be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_the_files_do_not_need_their_package(copied: Path) -> None:
    assert StaticEmbedder(copied.name).embed(["key"]).shape == (1, 256)


@pytest.mark.parametrize("name", [static.WEIGHTS.path, static.TOKENIZER.path])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_other_files_are_refused_and_the_failure_is_not_remembered(
    copied: Path, name: str, damage: str
) -> None:
    path = copied / name
    good = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        middle = len(good) // 2
        path.write_bytes(
            good[:middle]
            if damage == "cut"
            else good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]
        )
    broken = StaticEmbedder(copied.name)
    with pytest.raises(EmbedderUnavailable) as caught:
        broken.embed(["key"])
    assert str(path) in caught.value.detail
    assert f"pip install --force-reinstall wordllama=={static.PACKAGE_VERSION}" in str(caught.value)
    path.write_bytes(good)
    assert broken.embed(["key"]).tobytes() == embedder.embed(["key"]).tobytes()


def test_files_that_pass_but_cannot_be_read_are_an_embedder_error(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static, "pinned", lambda *_: b"not what any reader expects")
    with pytest.raises(EmbedderUnavailable, match="cannot be read"):
        StaticEmbedder(copied.name).embed(["key"])


def test_a_missing_package_is_named() -> None:
    with pytest.raises(EmbedderUnavailable, match="package no_such_llama is not installed"):
        StaticEmbedder("no_such_llama").embed(["key"])


def test_the_default_is_this_one() -> None:
    assert embedder_for(DEFAULT).embed(["key"]).tobytes() == embedder.embed(["key"]).tobytes()
    assert logging.root.level == logging.WARNING
