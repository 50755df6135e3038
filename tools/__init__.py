"""Tools for people who work on Engram; not installed."""
