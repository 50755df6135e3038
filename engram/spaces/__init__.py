"""Spaces: their ids, their folders, and the handle that is the only way to any memory."""
