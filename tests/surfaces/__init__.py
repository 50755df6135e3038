"""Tests of what users meet: HTTP, the server process and the command line."""
