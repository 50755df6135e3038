"""Bundles: a space as one stream of bytes, to be kept, carried elsewhere, or made a space again.

`codec` knows the bytes, `outgoing` reads them from a space that goes on being used, `incoming`
builds a space from them, `files` keeps them in files.
"""
