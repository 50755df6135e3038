"""Threads that are the first to decode a type, all at once."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

FIRST_AT_ONCE = """
import sys
import threading
import msgspec
from wal.decoding import decoder_of

sys.setswitchinterval(1e-6)
for number in range({types}):
    class Part(msgspec.Struct):
        a: int
    class Whole(msgspec.Struct, forbid_unknown_fields=True):
        parts: tuple[Part, ...]
        other: int | None
    barrier = threading.Barrier(8)
    def decode():
        barrier.wait()
        {decoder}.decode(b'{{"parts": [{{"a": 1}}], "other": null}}')
    threads = [threading.Thread(target=decode) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""
ROOT = Path(__file__).parents[2]


def ended_with(decoder: str, types: int) -> int:
    script = FIRST_AT_ONCE.format(decoder=decoder, types=types)
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode


def test_a_type_is_prepared_by_one_thread() -> None:
    assert ended_with("decoder_of(Whole)", 300) == 0


def test_without_that_the_process_ends() -> None:
    """If msgspec ever takes care of this by itself, `wal.decoding` can go."""
    assert ended_with("msgspec.json.Decoder(Whole)", 100_000) == -signal.SIGSEGV
