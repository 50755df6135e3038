"""What the two agents remember, what they are asked, and what they note while the server is killed.

The data is made up: a ferry booking company, seen by the agent that plans its work and by the one
that reviews its code.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from engram import NewMemory

HERE: Final = Path(__file__).parent
PLANNER: Final = "planner"
REVIEWER: Final = "reviewer"
SPACES: Final = (PLANNER, REVIEWER)
TURNS: Final = 200
"""In both spaces together."""

_PIERS: Final = ("Belém", "Cacilhas", "Seixal", "Montijo", "Trafaria", "Barreiro", "Porto Brandão")
_NOTES: Final = {
    PLANNER: (
        "{pier} pier asked for {number} more seats on the 08:15 sailing",
        "the crew at {pier} confirmed berth {number} for the weekend",
        "moved the {pier} sign-off to slot {number} of the next planning call",
    ),
    REVIEWER: (
        "change {number} to the {pier} timetable parser looks right, asked for one more test",
        "the {pier} departure screen shows {number} rows, the specification says one fewer",
        "build {number} of the {pier} kiosk passes again after the retry was removed",
    ),
}


class Question(msgspec.Struct, frozen=True):
    """A question to both agents, and which memories answer it best in each space."""

    question: str
    planner: tuple[str, ...]
    reviewer: tuple[str, ...]

    def expected(self, space: str) -> tuple[str, ...]:
        return self.planner if space == PLANNER else self.reviewer


def load_turns(space: str) -> list[NewMemory]:
    lines = (HERE / f"{space}.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=NewMemory) for line in lines]


def load_questions() -> list[Question]:
    return msgspec.json.decode((HERE / "questions.json").read_bytes(), type=list[Question])


def notes() -> Iterator[tuple[str, NewMemory]]:
    """Small new memories without end, to each space in turn."""
    for number in itertools.count(1):
        for space in SPACES:
            form = _NOTES[space][number % len(_NOTES[space])]
            text = form.format(pier=_PIERS[number % len(_PIERS)], number=number)
            yield (
                space,
                NewMemory(
                    id=f"note-{number:03}",
                    content=f"Note {number}: {text}.",
                    tags=("notes",),
                    source="demo",
                ),
            )
