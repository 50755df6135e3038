"""Contents, metadata, vectors and what makes them, as they are given on a command line or on
standard input.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from engram import limits
from engram.errors import Invalid, Malformed, TooLarge

if TYPE_CHECKING:
    from engram import EmbeddingSpec, Quotas


def quotas_of(text: str | None) -> Quotas | None:
    """The quotas that `--quota` holds."""
    if text is None:
        return None
    from engram.memory.quotas import parse_quotas

    return parse_quotas("--quota", text)


def content_of(text: str) -> str:
    """`text` itself, or for `-` what stands on standard input, less the last line's end."""
    if text != "-":
        return text
    if sys.stdin is None:
        raise Malformed("standard input is closed; give the text itself instead of -")
    # Read no more than can be told apart from what is allowed.
    data = sys.stdin.buffer.read(limits.CONTENT_BYTES_MAX + 3)
    if len(data) > limits.CONTENT_BYTES_MAX + 2:
        raise TooLarge(
            f"standard input holds more than {limits.CONTENT_BYTES_MAX} bytes, which is what a "
            "memory may have. Split it"
        )
    try:
        content = data.decode()
    except UnicodeDecodeError as error:
        raise Invalid.of("content", f"standard input is not UTF-8 at byte {error.start}") from None
    return content.removesuffix("\n").removesuffix("\r")


def metadata_of(text: str | None) -> dict[str, Any] | None:
    """The object that `--metadata` holds."""
    if text is None:
        return None
    import msgspec

    example = """give an object, as '{"agent": "planner"}'"""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Invalid.of("--metadata", f"is not JSON ({error}); {example}") from None
    if not isinstance(value, dict):
        raise Invalid.of("--metadata", f"is not an object; {example}")
    return value


def numbers_of(option: str, text: str | None) -> list[float | None] | None:
    """The list of numbers, with null among them or not, that an option holds."""
    if text is None:
        return None
    import msgspec

    try:
        return msgspec.json.decode(text, type=list[float | None])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Invalid.of(
            option, f"is not a JSON list of numbers and null ({error}); give it as '[0.5, null]'"
        ) from None


def embedding_of(model: str | None, dimensions: int | None) -> EmbeddingSpec | None:
    """The embedding that the options mean; None leaves it to the engine."""
    from engram import EmbeddingSpec
    from engram.memory.validate import CALLER

    if model is None and dimensions is None:
        return None
    if model is not None and dimensions is None:
        from engram.embedding.registry import KNOWN, PACKAGED, dimensions_of, is_known

        dimensions = dimensions_of(model)
        if dimensions is None and model != CALLER and not is_known(model):
            raise Malformed(f"--embedding {model} is not known here; use one of {KNOWN}")
        if dimensions is None:
            raise Malformed(
                f"--embedding {model} needs --dimensions, how long its vectors are; they are known "
                f"of {', '.join(PACKAGED)} alone"
            )
    return EmbeddingSpec(model=model or CALLER, dimensions=dimensions or 0)
