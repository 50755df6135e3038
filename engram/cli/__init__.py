"""The command line. It parses, calls the engine, and prints.

:mod:`engram.cli.app` is the entry point; each other module holds one group of commands. Everything
that is not needed to print a help text is imported inside the commands, so that help is instant.
"""
