"""The page at `/docs`: put together from three files, it asks for nothing but the document."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import Final, NamedTuple

_FOLDER: Final = resources.files("engram.server.openapi")


class DocsPage(NamedTuple):
    """The page, and what a browser may do on its behalf (Content-Security-Policy)."""

    html: bytes
    policy: str


@cache
def docs_page() -> DocsPage:
    style, script = (_FOLDER.joinpath(name).read_text("utf-8") for name in ("docs.css", "docs.js"))
    html = _FOLDER.joinpath("docs.html").read_text("utf-8")
    policy = (
        f"default-src 'none'; connect-src 'self'; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return DocsPage(html.replace("@style@", style).replace("@script@", script).encode(), policy)


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
