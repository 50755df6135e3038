"""A planted bug for each target: fuzzing it must fail, or the fuzzing here finds nothing.

    python -m fuzz.canary TARGET -runs=20000

`tests/unit/test_fuzz_targets.py` runs each and expects the failure. The bugs are those that readers
of files have: a length that is believed before its checksum, a checksum that is not looked at, what
contradicts a proof, a field that is lost.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from fuzz.driver import fuzz


def plant(bug: Any, name: str, *places: Any) -> None:
    """Let `bug` be what each place knows under this name."""
    for place in places:
        setattr(place, name, bug)


def believes_a_length_before_its_checksum() -> None:
    """A record that seems too long for the file is taken for the end of the log."""
    from fuzz import record_codec
    from wal import format as f
    from wal import segment
    from wal.codec import Bad, End, Record, decode_record

    def decode(view: memoryview, offset: int, seed: int) -> Record | End | Bad:
        magic = bytes(view[offset : offset + len(f.RECORD_MAGIC)])
        if len(view) - offset >= f.RECORD_HEADER_BYTES and magic == f.RECORD_MAGIC:
            length = int.from_bytes(view[offset + 4 : offset + 8], "little")
            if offset + f.RECORD_HEADER_BYTES + f.padded(length) > len(view):
                return End(offset)
        return decode_record(view, offset, seed)

    plant(decode, "decode_record", segment, record_codec)


def cuts_off_what_was_durable() -> None:
    """Damage that a later record proves to be damage is taken for a torn tail."""
    from wal import replay
    from wal.recovery import Plan, TailSeen, plan_tail

    def plan(seen: TailSeen) -> Plan:
        return plan_tail(seen._replace(later=()))

    plant(plan, "plan_tail", replay)


def does_not_look_at_a_document_s_checksum() -> None:
    from wal import framed

    plant(lambda text, base=10: Anything() if base == 16 else int(text), "int", framed)


class Anything(int):
    """Equal to whatever it is compared with."""

    __hash__ = int.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


def does_not_look_at_the_blocks_of_a_column() -> None:
    from compaction.columns import ColumnFile

    plant(lambda self, start, stop: None, "_verify", ColumnFile)


def loses_the_last_event_of_a_batch() -> None:
    """Only beside a memory that has tags and no source."""
    from engram.memory import payload
    from engram.memory.events import MemoryVersion

    real = payload.decode_batch

    def decode(data: memoryview) -> payload.Batch:
        batch = real(data)
        for event in batch.events:
            if isinstance(event, MemoryVersion) and event.source is None and event.tags:
                return batch._replace(events=list(batch.events)[:-1])
        return batch

    plant(decode, "decode_batch", payload)


def takes_the_first_slot_that_is_whole() -> None:
    from wal import watermark

    real = watermark.decode_slots

    def decode(data: bytes, space_uuid: bytes) -> watermark.Watermark:
        first = real(data[: watermark.SLOT_BYTES], space_uuid)
        return first if first != watermark.NOTHING else real(data, space_uuid)

    plant(decode, "decode_slots", watermark)


def believes_an_end_without_looking_at_what_it_says() -> None:
    """The last checksum of a bundle is right, and so all of it is taken to be there."""
    from engram.bundles import codec

    def read_end(self: codec.BundleDecoder, payload: bytes, start: int) -> codec.Totals:
        self.totals = self._sum.totals()
        return self.totals

    plant(read_end, "_read_end", codec.BundleDecoder)


PLANTED: Final[dict[str, Callable[[], None]]] = {
    "record_codec": believes_a_length_before_its_checksum,
    "segment": cuts_off_what_was_durable,
    "manifest": does_not_look_at_a_document_s_checksum,
    "columns": does_not_look_at_the_blocks_of_a_column,
    "payload": loses_the_last_event_of_a_batch,
    "bundle": believes_an_end_without_looking_at_what_it_says,
    "watermark": takes_the_first_slot_that_is_whole,
}

if __name__ == "__main__":
    name = sys.argv.pop(1)
    module = import_module(f"fuzz.{name}")
    PLANTED[name]()
    fuzz(module.target, name, module.WORDS)
