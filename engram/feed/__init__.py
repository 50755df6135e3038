"""The feed of a space: its durable events, history first and then live, without a seam.

Subscribers pull. Each is no more than a cursor (the position it has scanned) and asks for the next
page when it is ready for one; the feed keeps the newest events in one bounded tail that all of them
share, and whoever falls behind it reads the log again. So a slow subscriber costs nobody anything
and misses nothing.

:mod:`engram.feed.telling` turns logged events into told ones, :mod:`engram.feed.cursor` decides
where a subscriber reads next (both pure), :mod:`engram.feed.feed` holds the tail and wakes who
waits, :mod:`engram.feed.reader` is one subscription.
"""
