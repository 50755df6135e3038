"""The background scrub: damage that nobody touches is found, and what is sound is left in peace."""

from __future__ import annotations

import errno
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import engram
from engram.errors import Invalid, SpaceDamaged
from engram.spaces import scrub as scrub_module
from engram.spaces.database import Database
from engram.spaces.registry import Registry
from engram.spaces.scrub import Pause, Scrub
from engram.spaces.space import Space
from engram.spaces.verify import verify
from tests.unit.conftest import CALLER, UNIT, in_child
from wal.sim_vfs import SimDisk

WAIT_S = 60
Pick = Callable[[Space], Path]


def at_once(event: threading.Event, seconds: float) -> None:
    assert seconds >= 0


def scrub_of(db: Database, pause: Pause = at_once, bytes_per_s: int = 1) -> Scrub:
    return Scrub(db._open_entries, bytes_per_s, pause)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what tests write is more than one."""
    monkeypatch.setattr(scrub_module, "PIECE_BYTES", scrub_module.BLOCK_BYTES)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    """A data root with the space `alpha`, whose history begins at a base that is not its newest
    checkpoint, and a small one, `beta`.
    """
    root = tmp_path / "data"
    with engram.open(root) as made:
        fill(made.create_space("alpha", embedding=CALLER))
        made.create_space("beta", embedding=CALLER).remember("b", id="b", embedding=UNIT)
    with engram.open(root) as opened:
        opened.space("alpha").get("new1-0")
        opened.space("beta").get("b")
        yield opened


def write(space: Space, name: str, count: int = 40) -> None:
    for n in range(count):
        space.remember(f"{name} " * 600, id=f"{name}-{n}", embedding=UNIT)


def fill(space: Space) -> None:
    write(space, "old")
    space.compact()
    write(space, "new0")
    space.configure(retention="positions:41")
    space.compact()
    write(space, "new1")
    space.compact()
    assert space.info().oldest_position > 1


def sealed(space: Space) -> Path:
    return Path("log", space._store().log.sealed[0][1].name)


def base(space: Space) -> Path:
    (found,) = (each for each in space._store().log.checkpoints if each.base)
    return Path("checkpoints", found.name)


def newest(space: Space) -> Path:
    found = space._store().log.checkpoints[-1]
    assert not found.base
    return Path("checkpoints", found.name)


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def middle(path: Path) -> None:
    flip(path, path.stat().st_size // 2)


def header(path: Path) -> None:
    flip(path, 30)


def end(path: Path) -> None:
    flip(path, path.stat().st_size - 20)


def cut(path: Path) -> None:
    """Put a shorter file in its place: what is mapped may not be cut."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-8])


def another(path: Path) -> None:
    """Put a file of the same kind and size in its place, of this space."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(bytes(data[:4096]) + bytes(len(data) - 4096))


def missing(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("spoil", [middle, header, end, cut, another, missing])
@pytest.mark.parametrize("pick", [sealed, base, newest])
def test_damage_that_nobody_touches_is_found(
    db: Database, pick: Pick, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    alpha, beta = db.space("alpha"), db.space("beta")
    file = pick(alpha)
    spoil(db.path / "alpha" / file)
    scrub = scrub_of(db)
    assert alpha.info().state == "active"
    with caplog.at_level(logging.ERROR, "engram.spaces"):
        scrub.round()
        scrub.round()
    info = alpha.info()
    assert info.state == "damaged"
    assert str(file) in (info.detail or "")
    assert [str(file) in record.getMessage() for record in caplog.records] == [True]
    with pytest.raises(SpaceDamaged, match=str(file)):
        alpha.remember("more", embedding=UNIT)
    assert alpha.get("new1-1").content.startswith("new1")
    assert len(alpha.recall(embedding=UNIT, mode="similarity", record=False).results) > 0
    beta.remember("more", embedding=UNIT)
    assert beta.info().state == "active"


def test_the_place_of_the_damage_is_told_in_a_record_longer_than_a_piece(tmp_path: Path) -> None:
    with engram.open(tmp_path / "data") as db:
        alpha = db.create_space("alpha", embedding=CALLER)
        batch = [engram.NewMemory(content="x" * 9_000, embedding=UNIT) for _ in range(40)]
        start = alpha.info().bytes
        assert start is not None
        alpha.remember_many(batch)
        alpha.remember_many(batch)
        alpha.compact()
        scrub = scrub_of(db)
        scrub.round()
        assert alpha.info().state == "active"
        length = alpha._store().log.sealed[0][1].length
        flip(db.path / "alpha" / sealed(alpha), length * 3 // 4)
        scrub.round()
        at = start + (length - start) // 2  # where the second of two that are as long begins
        assert f"{sealed(alpha)} at byte {at}" in (alpha.info().detail or "")


def test_a_segment_out_of_a_copy_that_went_its_own_way_is_none_of_the_space(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    with engram.open(ours) as db:
        db.create_space("alpha", embedding=CALLER)
    shutil.copytree(ours, theirs)
    with engram.open(ours) as db, engram.open(theirs) as other:
        for each, content in ((db, "ours"), (other, "else")):
            each.space("alpha").remember(content, id="one", embedding=UNIT)
            each.space("alpha").compact()
        alpha = db.space("alpha")
        shutil.copy(theirs / "alpha" / sealed(alpha), ours / "alpha" / sealed(alpha))
        scrub_of(db).round()
        assert "it does not end as the manifest says" in (alpha.info().detail or "")


def test_every_byte_of_a_space_is_read_and_paid_for(db: Database) -> None:
    store = db.space("alpha")._store()
    paid: list[float] = []
    scrub_of(db, lambda event, seconds: paid.append(seconds), bytes_per_s=1_000).round()
    held = sum(each.length for _, each, _ in store.log.sealed)
    held += sum(each.length for each in store.log.checkpoints)
    assert sum(paid) * 1_000 >= held
    assert max(paid) * 1_000 <= 2 * scrub_module.BLOCK_BYTES, "no more than a piece at a time"


def test_a_closed_space_stays_closed_and_a_scrubbed_one_is_not_used(db: Database) -> None:
    alpha, beta = db.space("alpha"), db.space("beta")
    used_s = alpha._entry.used_s
    assert beta._entry.rest()
    middle(db.path / "beta" / "log" / next((db.path / "beta" / "log").iterdir()).name)

    def close(event: threading.Event, seconds: float) -> None:
        alpha._entry.rest()

    scrub_of(db).round()
    assert alpha._entry.used_s == used_s
    scrub_of(db, close).round()  # which closes it while it is being read
    assert (alpha._entry.opened, beta._entry.opened) == (None, None)


def test_a_sound_space_is_never_called_damaged(db: Database) -> None:
    """Whatever is done between any two pieces."""
    alpha = db.space("alpha")
    done: list[int] = []

    def act(event: threading.Event, seconds: float) -> None:
        step = len(done)
        done.append(step)
        if step % 5 == 1 and step < 100:
            alpha.purge(f"new1-{step // 5}")
        elif step % 5 == 3 and step < 100:
            alpha.compact()
        else:
            alpha.remember("more " * 200, embedding=UNIT)

    scrub = scrub_of(db, act)
    for _ in range(6):
        scrub.round()
        assert alpha.info().state == "active"
    assert len(done) > 60
    db.close()
    assert all(report.ok for report in verify(db.path))


def test_scrubbing_beside_compactions_purges_and_writes(db: Database) -> None:
    alpha = db.space("alpha")
    failed: list[Exception] = []

    def use() -> None:
        try:
            for n in range(12):
                alpha.remember("more " * 400, embedding=UNIT)
                alpha.compact()
                alpha.purge(f"new1-{n}")
        except Exception as error:
            failed.append(error)

    scrub = scrub_of(db)
    user = threading.Thread(target=use)
    user.start()
    while user.is_alive():
        scrub.round()
    user.join()
    scrub.round()
    assert failed == []
    assert alpha.info().state == "active"


@pytest.fixture
def disk() -> SimDisk:
    return SimDisk()


@pytest.fixture
def simulated(disk: SimDisk) -> Iterator[Space]:
    with closing(Registry(disk.root(), owner="a test")) as registry:
        space = registry.create("alpha", CALLER)
        write(space, "old", 3)
        space.compact()
        yield space


def test_what_cannot_be_read_is_damaged(disk: SimDisk, simulated: Space) -> None:
    disk.fail("read_at", 1, errno.EIO, persistent=True, on="*.seg")
    Scrub(lambda: [simulated._entry], 1, at_once).round()
    info = simulated.info()
    assert info.state == "damaged"
    assert f"{sealed(simulated)} at byte 0: it cannot be read" in (info.detail or "")


@pytest.mark.parametrize("op", ["open", "open_dir", "read_at", "map"])
def test_what_the_system_cannot_do_now_is_no_damage(
    disk: SimDisk, simulated: Space, op: str
) -> None:
    scrub = Scrub(lambda: [simulated._entry], 1, at_once)
    disk.fail(op, 1, errno.EMFILE, persistent=True)
    scrub.round()
    assert simulated.info().state == "active"
    disk.heal()
    disk.fail("read_at", 1, errno.EIO, persistent=True, on="*.ckpt")
    scrub.round()
    assert simulated.info().state == "damaged", "its turn came again"


@pytest.mark.parametrize("within", [True, False], ids=["a round", "a rest"])
def test_it_stops_while_it_waits(root: Path, within: bool) -> None:
    waiting = threading.Event()

    def pause(event: threading.Event, seconds: float) -> None:
        if within == (seconds != scrub_module.REST_S):
            waiting.set()
        event.wait(WAIT_S if within == (seconds != scrub_module.REST_S) else 0)

    with engram.open(root) as db:
        for name in ("good", "bad"):
            db.space(name).compact()
        scrub = scrub_of(db, pause)
        scrub.start()
        assert waiting.wait(WAIT_S)
        scrub.stop()
        scrub.stop()
        assert [each for each in threading.enumerate() if each.name == "engram-scrub"] == []


def test_it_runs_where_it_is_asked_for_and_not_in_a_forked_child(root: Path) -> None:
    def running() -> list[str]:
        return [each.name for each in threading.enumerate() if each.name == "engram-scrub"]

    with engram.open(root):
        assert running() == []
    with engram.open(root, scrub_bytes_per_s=1) as db:
        assert running() == ["engram-scrub"]

        def child() -> list[str]:
            left = running()
            db.close()
            return left

        assert in_child(child) == []
        assert running() == ["engram-scrub"]
        db.space("good").compact()
    assert running() == []


@pytest.mark.parametrize("value", [-1, 1.5, True, None, "fast"])
def test_a_rate_is_a_whole_number(tmp_path: Path, value: int) -> None:
    with pytest.raises(Invalid, match="scrub_bytes_per_s"):
        engram.open(tmp_path / "data", scrub_bytes_per_s=value)
