"""The HTTP client: the verbs of the embedded API, spoken to a server.

    sse            the text of an event stream -> blocks, free of I/O
    requests       what a caller hands in -> checked JSON
    answers        what a server says -> the models of `engram.memory.model`, or its typed error
    transport      the connections: timeouts, retries, and what a lost one means
    feed           the live feed: reconnecting, never skipping or repeating a position
    asynchronous   `AsyncClient`, on asyncio
    synchronous    `Client`, the same from ordinary threads

Nothing of :mod:`engram.server` is used here, so client and server can be of different versions.
"""
