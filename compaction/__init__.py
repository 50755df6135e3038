"""Compaction: checkpoints of a space's state, so that opening it need not replay its whole log.

It knows files of columns and positions, and nothing of memories: what the columns mean is the
business of :mod:`engram`.
"""
