"""The gRPC surface: the services of :mod:`engram.v1`, spoken to the same spaces as over HTTP.

    values     messages <-> the values of `engram.memory.model`, by the descriptors; free of gRPC
    requests   what a request's messages mean to the engine; free of gRPC
    refusals   errors as `google.rpc.Status`, with what HTTP says in its problem documents
    calls      one call: who makes it, which space it means, what is wrong with its message
    memories   what each call of MemoryService does, and the table they are served from
    spaces     the same of SpaceService
    streams    the calls that send or take more than one message
    serving    the server: its port, its threads, its start and its end

Nothing of it is imported unless a server is started: gRPC takes a while to load.
"""
