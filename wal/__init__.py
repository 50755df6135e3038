"""An append-only, segmented, CRC32C-checked log of opaque records, one per folder.

`wal` knows bytes and positions. It knows nothing of memories, tenants, clocks, asyncio or HTTP:
times, ids and randomness come in as arguments, payloads go out as memoryviews.

- :mod:`wal.format`, :mod:`wal.codec`, :mod:`wal.manifest`, :mod:`wal.recovery` are pure: bytes and
  values in, values out.
- :mod:`wal.vfs` is the seam to the disk, :mod:`wal.os_vfs` and :mod:`wal.sim_vfs` stand behind it.
- :mod:`wal.segment`, :mod:`wal.replay`, :mod:`wal.log` and :mod:`wal.commit` are the effects:
  files, recovery, appending and reading, and group commit.
- :mod:`wal.inspect` reads a folder without owning it and reports.

The bytes are specified in docs/FORMAT.md.
"""
