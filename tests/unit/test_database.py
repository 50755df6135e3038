"""The embedded API as the contract writes it, and what closing means."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

import engram
from engram.errors import EngramError, SpaceExists, SpaceNotFound, Unavailable


def test_the_snippet_of_the_contract_runs(tmp_path: Path) -> None:
    with engram.open(str(tmp_path / "data")) as db:
        alpha = db.create_space("alpha")
        with pytest.raises(SpaceExists):
            db.create_space("alpha")
        with pytest.raises(SpaceNotFound):
            db.space("beta")
        m = alpha.remember(
            "The deploy key is rotated every Monday", tags=["ops"], metadata={"agent": "planner"}
        )
        alpha.remember_many(
            [
                "Lunch is at noon",
                {"content": "The vault holds the deploy key", "id": "vault", "tags": ["ops"]},
                engram.NewMemory(content="Standup is at nine", kind="fact"),
            ]
        )
        answer = alpha.recall("when is the deploy key rotated", limit=5, explain=True)
        for hit in answer:
            assert hit.score >= 0
            assert 0 <= hit.confidence.lower <= hit.confidence.upper <= 1
            assert hit.memory.content
            assert hit.why is not None
        assert answer.results[0].memory == m
        alpha.forget(m.id)
        assert m.id not in [hit.memory.id for hit in alpha.recall("deploy key")]
        assert [info.memory_space_id for info in db.spaces()] == ["alpha"]


def test_what_is_remembered_is_answered_in_full(alpha: engram.Space) -> None:
    memory = alpha.remember("text")
    assert (memory.memory_space_id, memory.kind, memory.revision) == ("alpha", "episode", 1)
    assert (memory.position, memory.confidence, memory.tags) == (2, 1.0, ())
    assert (memory.metadata, memory.source, memory.embedding) == ({}, None, None)
    batch = alpha.remember_many(["one", "two", "three"])
    assert batch.memory_space_id == "alpha"
    assert [m.position for m in batch.memories] == [3, 4, 5]
    assert batch.position == 5
    assert len({m.id for m in batch.memories}) == 3
    assert alpha.get(batch.memories[1].id) == batch.memories[1]
    forgotten = alpha.forget(memory.id)
    assert (forgotten.id, forgotten.position) == (memory.id, 6)


def test_an_embedding_is_given_only_where_it_is_asked_for(alpha: engram.Space) -> None:
    memory = alpha.remember("text")
    assert alpha.get(memory.id).embedding is None
    assert alpha.list().memories[0].embedding is None
    held = alpha.get(memory.id, include_embedding=True).embedding
    listed = alpha.list(include_embedding=True).memories[0].embedding
    assert held is not None
    assert listed is not None
    assert held.shape == (256,)
    assert held.tolist() == listed.tolist()


def test_everything_is_there_after_reopening_again_and_again(tmp_path: Path) -> None:
    written: list[engram.Memory] = []
    for boot in range(5):
        with engram.open(tmp_path / "data") as db:
            space, created = db.ensure_space("alpha")
            assert created == (boot == 0)
            assert list(space.list(limit=1_000).memories) == written
            written += [space.remember(f"boot {boot}, memory {i}") for i in range(3)]
    assert [memory.position for memory in written] == list(range(2, 17))


def test_leaving_the_context_closes_even_on_an_error(tmp_path: Path) -> None:
    handles: list[engram.Space] = []

    def fail() -> None:
        with engram.open(tmp_path / "data", exclusive=True) as db:
            handles.append(db.create_space("alpha"))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with pytest.raises(Unavailable):
        handles[0].remember("x")
    engram.open(tmp_path / "data", exclusive=True).close()


def test_closing_twice_and_from_two_threads_is_harmless(tmp_path: Path) -> None:
    db = engram.open(tmp_path / "data")
    db.create_space("alpha").remember("x")
    threads = [threading.Thread(target=db.close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    db.close()
    with engram.open(tmp_path / "data") as again:
        assert again.space("alpha").info().memories == 1


def test_handles_are_interchangeable_and_outlive_the_look_up(db: engram.Database) -> None:
    first, second = db.create_space("alpha"), db.space("alpha")
    memory = first.remember("x")
    assert second.get(memory.id) == memory
    assert repr(first) == "<engram.Space 'alpha'>"
    assert first.info() == second.info() == db.space_info("alpha")


def test_two_databases_of_one_process_share_no_space(tmp_path: Path) -> None:
    with engram.open(tmp_path / "data", owner="first") as first:
        first.create_space("alpha").remember("x")
        with (
            engram.open(tmp_path / "data") as second,
            pytest.raises(engram.SpaceLocked, match="already open in this process"),
        ):
            second.space("alpha").info()


def test_every_public_name_is_there_and_documented() -> None:
    for name in engram.__all__:
        value = getattr(engram, name)
        assert name == "__version__" or value.__doc__ or issubclass(value, EngramError)
    assert set(engram.__all__) <= set(dir(engram))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        engram.nothing  # noqa: B018


def test_importing_the_package_loads_nothing_else() -> None:
    script = "import sys, engram; print(sum(m.startswith(('numpy', 'wal')) for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.strip() == b"0"
