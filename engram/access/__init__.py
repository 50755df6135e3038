"""Who may do what: access keys, what they grant, and how a surface finds out who asks.

:mod:`engram.access.keys` and :mod:`engram.access.principal` are pure, :mod:`engram.access.key_file`
keeps keys on disk, and :mod:`engram.access.gate` is what REST and gRPC ask.
"""
