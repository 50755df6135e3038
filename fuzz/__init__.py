"""Fuzz targets. `make fuzz` runs the record codec for five minutes; see :mod:`fuzz.record_codec`.

A target is a function from bytes to None that raises when a property does not hold.
:mod:`fuzz.canary` has a planted bug and must fail: it shows that the machinery can find one.
"""
