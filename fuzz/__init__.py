"""Fuzz targets, one a module. `make fuzz` runs them all; `python -m fuzz.segment -runs=N` one.

A target is a function from bytes to None that raises when a property does not hold.
:mod:`fuzz.canary` plants a bug for each, which must be found: it shows that the machinery can.
"""

from typing import Final

TARGETS: Final = (
    "record_codec",
    "segment",
    "manifest",
    "columns",
    "payload",
    "watermark",
    "bundle",
)
