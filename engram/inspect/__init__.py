"""Looking into logs offline, and rescuing what is in them: no server, no lock.

    sources    what a path names: a data root, a space, segment files, a manifest
    reading    every record in it that verifies, in order, and what is wrong in between
    figures    what they add up to: counts, sizes, times
    dump       records and events as lines
    rescue     what becomes of events that lost what they lean on
    salvage    a new space, or JSON Lines, of all that can be read
    repair     what opening refuses and an operator may decide

Here a damaged log is the normal case, so nothing stops at the first damage. Only `repair` changes
what it reads, once a copy of it is durable.
"""
