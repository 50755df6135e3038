"""Several faults at once in the files of a log, by chance, seed after seed.

    python -m tests.crash.multifaults [--count 200000] [--seed N] [--json]

Each case takes a reference log, cleanly closed or left by a crash, and harms it in two to six
places: bits flipped, ranges overwritten or exchanged, files cut, grown or removed. Inspecting and
opening have to agree (`tests.crash.test_damage.verdict_on`), and what is served has to be a
beginning of what was written: of a log that was closed all of it, or nothing, as long as its
watermark was not hit too. (With that gone, a last segment that was cut is what a crash leaves.)
Exit codes: 0 all held, 1 one did not; its seed repeats it with `--count 1`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from random import Random
from typing import Final

from tests.crash.test_damage import WHOLE, Whole, verdict_on, with_log_file
from wal.sim_vfs import Contents

FAULTS_MAX: Final = 6
RANGE_BYTES_MAX: Final = 600


def harmed(data: bytes, random: Random) -> bytes:
    """A file's bytes with one fault in them."""
    if not data:
        return random.randbytes(random.randint(1, 64))
    at = random.randrange(len(data))
    length = random.randint(1, min(RANGE_BYTES_MAX, len(data) - at))
    match random.randrange(6):
        case 0:
            flipped = data[at] ^ (1 << random.randrange(8))
            return data[:at] + bytes([flipped]) + data[at + 1 :]
        case 1:
            return data[:at] + bytes(length) + data[at + length :]
        case 2:
            return data[:at] + random.randbytes(length) + data[at + length :]
        case 3:
            other = random.randrange(len(data) - length + 1)
            return data[:at] + data[other : other + length] + data[at + length :]
        case 4:
            return data[:at]
        case _:
            return data + random.choice((bytes(length), random.randbytes(length), data[:length]))


def case(seed: int) -> tuple[Whole, Contents]:
    """The reference log of a seed, and what is left of it."""
    random = Random(seed)
    whole = WHOLE[random.choice(("closed", "crashed"))]
    contents = whole.contents
    for _ in range(random.randint(2, FAULTS_MAX)):
        files = [name for name, data in contents.items() if isinstance(data, bytes)]
        inner = contents["log"]
        assert isinstance(inner, dict)
        # Most of a space is its log, and most of what decays.
        name = random.choice(sorted(inner) * 4 + sorted(files))
        data = inner[name] if name in inner else contents[name]
        assert isinstance(data, bytes)
        gone = random.random() < 0.02 and len(inner) > 1
        new = None if gone and name in inner else harmed(data, random)
        if name in inner:
            contents = with_log_file(contents, name, new)
        else:
            contents = {**contents, name: new or b""}
    return whole, contents


def check(seed: int) -> bool:
    """Whether the log of a seed was served at all. Raises AssertionError if it was not right."""
    whole, contents = case(seed)
    verdict = verdict_on(contents, whole)
    if verdict.records is None:
        return False
    if whole is WHOLE["closed"] and contents["WATERMARK"] == whole.contents["WATERMARK"]:
        assert verdict.records == len(whole.facts), "less than was durable was served"
    return True


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=200_000, help="how many cases (200,000)")
    parser.add_argument("--seed", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--json", action="store_true", help="one document instead of a line")
    chosen = parser.parse_args(arguments)
    started, served, failure = time.monotonic(), 0, None
    done = 0
    for seed in range(chosen.seed, chosen.seed + chosen.count):
        try:
            served += check(seed)
        except Exception as error:
            failure = f"seed {seed}: {type(error).__name__}: {error}"
            break
        done += 1
        if done % 5_000 == 0 and sys.stderr.isatty():
            print(f"{done:,} of {chosen.count:,}", file=sys.stderr)
    report = {
        "cases": done,
        "served": served,
        "refused": done - served,
        "next_seed": chosen.seed + done,
        "seconds": round(time.monotonic() - started, 1),
        "failure": failure,
    }
    if chosen.json:
        print(json.dumps(report))
    else:
        print(
            f"{done:,} logs with several faults: {served:,} served what was written, "
            f"{done - served:,} refused; in {report['seconds']} s"
        )
        if failure is not None:
            print(failure, file=sys.stderr)
    return 0 if failure is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
