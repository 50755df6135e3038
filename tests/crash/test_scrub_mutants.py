"""Deliberate bugs in the background scrub, each caught by a check that holds without it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import engram
from engram.memory.model import EmbeddingSpec
from engram.spaces import scrub
from engram.spaces.scrub import Pause, Scrub
from engram.spaces.space import Space
from wal.errors import Damaged

Patch = pytest.MonkeyPatch
CALLER = EmbeddingSpec(model="caller", dimensions=3)
EMBEDDING = [1.0, 0.0, 0.0]
PLACES = 16
"""Where each file is damaged: so many times, spread over all of it."""


def at_once(event: threading.Event, seconds: float) -> None:
    """A pause that is none."""


@contextmanager
def filled(pause: Pause = at_once) -> Iterator[tuple[Space, Path, Scrub]]:
    """A space whose segment and checkpoint are several pieces long, its folder, and its scrub."""
    with TemporaryDirectory() as root, engram.open(root) as db, Patch.context() as patch:
        patch.setattr(scrub, "PIECE_BYTES", scrub.BLOCK_BYTES)
        space = db.create_space("alpha", embedding=CALLER)
        for n in range(100):
            space.remember(f"memory {n} " * 200, id=f"m{n}", embedding=EMBEDDING)
        space.compact()
        yield space, Path(root, "alpha"), Scrub(lambda: [space._entry], 1, pause)


def _flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def damage_is_found_wherever_it_is() -> None:
    """In each file, from its first byte to its last one."""
    with filled() as (space, folder, scrubbing):
        log = space._store().log
        files = [
            *(folder / "log" / sealed.name for _, sealed, _ in log.sealed),
            *(folder / "checkpoints" / each.name for each in log.checkpoints),
        ]
        scrubbing.round()
        assert space.info().state == "active"
        for file in files:
            size = file.stat().st_size
            assert size > 3 * scrub.BLOCK_BYTES
            for place in range(PLACES):
                at = place * (size - 1) // (PLACES - 1)
                _flip(file, at)
                scrubbing.round()
                assert space.info().state == "damaged", f"{file.name} at byte {at}"
                _flip(file, at)
                space.reopen()


def what_was_replaced_meanwhile_is_no_damage() -> None:
    paused: list[float] = []

    def compact_and_purge(event: threading.Event, seconds: float) -> None:
        paused.append(seconds)
        if len(paused) <= 5:
            space.purge(f"m{len(paused)}")

    with filled(compact_and_purge) as (space, _, scrubbing):
        for _ in range(6):
            scrubbing.round()
            assert space.info().state == "active"
        assert len(paused) > 5


def believes_a_segment_after_its_first_piece(patch: Patch) -> None:
    real = scrub._Segment._go_on

    def go_on(self: scrub._Segment, *args: object) -> int:
        taken = real(self, *args)  # type: ignore[arg-type]
        self.done = True
        return taken

    patch.setattr(scrub._Segment, "_go_on", go_on)


def believes_a_checkpoint_after_its_header(patch: Patch) -> None:
    real = scrub._Checkpoint._begin

    def begin(self: scrub._Checkpoint, *args: object) -> int:
        taken = real(self, *args)  # type: ignore[arg-type]
        self.done = True
        return taken

    patch.setattr(scrub._Checkpoint, "_begin", begin)


def takes_what_does_not_verify_for_a_busy_system(patch: Patch) -> None:
    def go_on(store: object, each: object, damage: Damaged) -> None:
        """Leave it for the next round."""

    patch.setattr(scrub, "_condemn", go_on)


def holds_a_file_that_is_gone_against_its_space(patch: Patch) -> None:
    for kind in (scrub._Segment, scrub._Checkpoint):
        patch.setattr(kind, "is_named", lambda self, log: True)


MUTANTS: list[tuple[Callable[[Patch], None], Callable[[], None]]] = [
    (believes_a_segment_after_its_first_piece, damage_is_found_wherever_it_is),
    (believes_a_checkpoint_after_its_header, damage_is_found_wherever_it_is),
    (takes_what_does_not_verify_for_a_busy_system, damage_is_found_wherever_it_is),
    (holds_a_file_that_is_gone_against_its_space, what_was_replaced_meanwhile_is_no_damage),
]
CHECKS = list(dict.fromkeys(check for _, check in MUTANTS))


@pytest.mark.parametrize("holds", CHECKS, ids=lambda check: check.__name__)
def test_the_check_holds_for_the_scrub_as_it_is(holds: Callable[[], None]) -> None:
    holds()


@pytest.mark.parametrize(
    ("mutate", "holds"), MUTANTS, ids=[mutate.__name__ for mutate, _ in MUTANTS]
)
def test_the_check_catches_a_scrub_that(
    mutate: Callable[[Patch], None], holds: Callable[[], None], monkeypatch: Patch
) -> None:
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        holds()
