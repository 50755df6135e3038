"""Links of a space: what becomes of them when it is compacted, purged, copied and rescued."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import engram
from engram.errors import LinkNotFound, MemoryNotFound
from engram.inspect.salvage import salvage_to_space
from engram.inspect.sources import find_sources, opened, parent_of
from engram.spaces.space import Space
from engram.spaces.verify import verify
from tests.unit.conftest import CALLER, UNIT

Told = tuple[str, str, str, float]


@pytest.fixture
def db(tmp_path: Path) -> Iterator[engram.Database]:
    with engram.open(tmp_path / "data") as opened_db:
        yield opened_db


def filled(db: engram.Database) -> Space:
    alpha = db.create_space("alpha", embedding=CALLER)
    for memory_id in ("a", "b", "c", "d"):
        alpha.remember(memory_id, id=memory_id, embedding=UNIT)
    alpha.link("a", "b", weight=0.8, relation="causes")
    alpha.link("b", "c", weight=0.1)
    alpha.link("c", "a", weight=1 / 3, relation="größer")
    alpha.link("a", "d", weight=0.5)
    alpha.link("b", "c", weight=0.7)
    alpha.unlink("a", "d")
    return alpha


LINKS: set[Told] = {
    ("a", "b", "causes", 0.8),
    ("b", "c", "related", 0.7),
    ("c", "a", "größer", 1 / 3),
}


def links_of(space: Space) -> set[Told]:
    found = set()
    for memory in space.list(limit=1_000).memories:
        for link in space.links(memory.id, limit=1_000).links:
            assert link in space.links(link.source, limit=1_000).links
            assert link in space.links(link.target, limit=1_000).links
            found.add((link.source, link.target, link.relation, link.weight))
    return found


def history(space: Space, memory_id: str) -> list[int]:
    return [event.position for event in space.history(memory_id)]


def holds(root: Path, needle: str) -> bool:
    data = needle.encode()
    return any(data in path.read_bytes() for path in root.rglob("*") if path.is_file())


def test_a_compaction_changes_no_link_and_no_history(db: engram.Database, tmp_path: Path) -> None:
    alpha = filled(db)
    histories = {memory_id: history(alpha, memory_id) for memory_id in "abcd"}
    assert histories["d"] == [5, 9, 11]
    for _ in range(2):
        alpha.compact()
        assert links_of(alpha) == LINKS
        assert {memory_id: history(alpha, memory_id) for memory_id in "abcd"} == histories
    db.close()
    with engram.open(tmp_path / "data") as again:
        assert links_of(again.space("alpha")) == LINKS
        with pytest.raises(LinkNotFound):
            again.space("alpha").unlink("a", "d")
        again.space("alpha").unlink("c", "a", "größer")
    assert all(report.ok for report in verify(tmp_path / "data"))


def test_links_of_what_expired_are_not_listed(db: engram.Database) -> None:
    alpha = filled(db)
    past = engram.Changes(expires_at=alpha.get("a").stored_at)
    alpha.revise("b", past)
    assert links_of(alpha) == {("c", "a", "größer", 1 / 3)}
    with pytest.raises(MemoryNotFound):
        alpha.link("a", "b")
    alpha.remember("anew", id="b", embedding=UNIT)
    assert links_of(alpha) == {("c", "a", "größer", 1 / 3)}


@pytest.mark.parametrize("compacted_before", [False, True])
def test_what_links_say_of_a_purged_memory_is_in_no_file(
    db: engram.Database, tmp_path: Path, compacted_before: bool
) -> None:
    alpha = filled(db)
    alpha.link("d", "b", relation="xylophone")
    alpha.unlink("d", "b", "xylophone")
    if compacted_before:
        alpha.compact()
    assert holds(tmp_path, "xylophone")
    before = history(alpha, "d")
    alpha.purge("b")
    assert not holds(tmp_path, "xylophone")
    assert not holds(tmp_path, "causes")
    assert links_of(alpha) == {("c", "a", "größer", 1 / 3)}
    assert history(alpha, "d") == before[:3]
    told = [event.type for event in alpha.events(after=0)]
    assert told.count("history.redacted") == 6
    assert "xylophone" not in repr(list(alpha.events(after=0)))
    db.close()
    assert all(report.ok for report in verify(tmp_path / "data"))


def shortened(db: engram.Database) -> Space:
    """A space whose history begins behind a base, with a memory forgotten before and restored
    behind it.
    """
    alpha = filled(db)
    alpha.forget("c")
    alpha.compact()
    alpha.restore("c")
    alpha.remember("behind", id="behind", embedding=UNIT)
    alpha.compact()
    alpha.configure(retention="positions:5")
    alpha.compact()
    forgotten, restored = 12, alpha.get("c").position
    assert forgotten < (alpha.info().oldest_position or 0) <= restored
    return alpha


def test_what_is_restored_behind_a_base_has_its_links(db: engram.Database, tmp_path: Path) -> None:
    alpha = shortened(db)
    assert links_of(alpha) == LINKS
    restored = alpha.get("c").position
    copy = alpha.fork("copy", as_of=restored)
    assert links_of(copy) == LINKS
    alpha.export(tmp_path / "alpha.engram")
    assert links_of(db.import_space("other", tmp_path / "alpha.engram")) == LINKS
    db.close()
    assert all(report.ok for report in verify(tmp_path / "data"))


def test_a_fork_as_of_a_position_has_the_links_of_then(db: engram.Database) -> None:
    alpha = filled(db)
    copy = alpha.fork("copy", as_of=9)
    assert links_of(copy) == {
        ("a", "b", "causes", 0.8),
        ("b", "c", "related", 0.1),
        ("c", "a", "größer", 1 / 3),
        ("a", "d", "related", 0.5),
    }
    copy.unlink("a", "d")
    alpha.link("d", "c")
    assert ("d", "c", "related", 1.0) not in links_of(copy)


@pytest.mark.parametrize("make", [filled, shortened])
def test_links_are_rescued(
    db: engram.Database, tmp_path: Path, make: Callable[[engram.Database], Space]
) -> None:
    make(db)
    db.close()
    (source,) = find_sources(tmp_path / "data" / "alpha")
    rescued = tmp_path / "data" / "rescued"
    with opened(source) as log, parent_of(rescued) as parent:
        salvage_to_space(log, parent, rescued.name, now_ns=1)
    with engram.open(tmp_path / "data") as again:
        assert links_of(again.space("rescued")) == LINKS
