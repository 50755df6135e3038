"""The command line. It parses, calls the verbs, and prints.

    app            the entry point: all commands, and what errors become
    options        the options that commands share        completion   what the Tab key offers
    settings       flags, environment, engram.toml        connection   a data root or a server
    given, times   values as people type them
    output         how text and JSON reach a terminal, a pipe or nobody
    render         memories, answers, events and spaces as people read them
    remember, ingest, recall, memories, watch, status, space, serve, log, configuration
                   the commands

A command is written once: what :func:`engram.cli.connection.opened` yields has the same verbs on a
data root and on a server. Everything that is not needed to print a help text is imported inside the
commands, so that help is instant; rich is, too.
"""
