"""What a bundle may hold. Pure checks, as strict as those of requests: whoever reads a space relies
on what they keep out, and whoever made a bundle need not have been Engram.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec
import numpy as np

from compaction.columns import Array
from engram.bundles.codec import POSITION_MAX, BundleError
from engram.errors import Invalid, TooLarge
from engram.indexes.attributes import AttributeColumns, Attributes
from engram.limits import CONTENT_BYTES_MAX
from engram.memory import validate
from engram.memory.columns import compact
from engram.memory.events import (
    ActivationSpread,
    Event,
    MemoryConsolidated,
    MemoryForgotten,
    MemoryLinked,
    MemoryPurged,
    MemoryRecalled,
    MemoryVersion,
    SpaceConfigured,
    SpaceDeleted,
)
from engram.memory.forgetting import Forgetting
from engram.memory.policies import check_forgetting
from engram.memory.purges import is_husk
from engram.memory.state import State
from engram.memory.times import FIRST_US, LAST_US, NEVER_US

ROWS_AT_ONCE: Final = 4_096
SUMMARISER_CHARACTERS_MAX: Final = 256


def check_rows(state: State, position: int) -> None:
    """Raise :class:`BundleError` for a base whose rows cannot be read one by one."""
    view = state.view
    positions = view.positions
    if len(positions) and not 1 <= int(positions.min()) <= int(positions.max()) <= position:
        raise BundleError(0, "its base holds positions that it does not stand for")
    ids = set[str]()
    attributes, versions = Attributes(), list[MemoryVersion]()
    try:
        if view.position != position:
            raise BundleError(0, "its base stands for another position")
        if int(view.links.entries().positions.max(initial=0)) > position:
            raise BundleError(0, "its base holds a link that it does not stand for")
        if view.beliefs.last_position > position:
            raise BundleError(0, "its base holds a belief that it does not stand for")
        if not view.live[view.beliefs.cited(view.live)].all():
            raise BundleError(0, "its base holds a belief that rests on what is gone")
        _check_policy(state.settings.forgetting)
        for relation in view.links.relations:
            _check_link(relation, 1.0)
        uses = view.uses.kept(np.arange(view.rows))
        if not 0 <= view.uses.since <= view.uses.company_since <= position:
            raise BundleError(0, "its base holds uses that it does not stand for")
        for time_us in np.concatenate((uses.begun_us, uses.times_us)).tolist():
            _check_us("uses", time_us)
        for row in range(view.rows):
            view.history(row)
            version = view.version(row)
            check_version(version, husk_may_be=not view.live[row])
            _check_us("stored_us", int(view.stored_us[row]))
            expires_us = NEVER_US if version.expires_us is None else version.expires_us
            said = (float(view.confidences[row]), int(view.expires_us[row]))
            if said != (version.confidence, expires_us):
                raise BundleError(0, "its base says of a memory what that does not")
            if view.live[row] and state.latest(version.id) is None:
                raise BundleError(0, "its base holds a memory that no id leads to")
            if version.id in ids:
                raise BundleError(0, "its base holds two memories of one id")
            ids.add(version.id)
            versions.append(version)
            if len(versions) == ROWS_AT_ONCE or row == view.rows - 1:
                attributes.extend(versions)
                versions.clear()
        _check_attributes(view.attributes.columns(), attributes.view().columns())
        for _ in compact(state.freeze()).named():
            pass  # which goes through every index
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(0, f"its base holds what is no memory: {error}") from error


def _check_attributes(said: AttributeColumns, made: AttributeColumns) -> None:
    """Raise :class:`BundleError` for attributes that say something else than those made of the
    memories do. Filters read them alone, and expect of a value what its kind has.
    """
    wrong = BundleError(0, "its base has attributes that its memories do not have")
    one, other = said.postings, made.postings
    if not (
        np.array_equal(said.kinds, made.kinds)
        and np.array_equal(one.keys, other.keys)
        and np.array_equal(one.starts, other.starts)
        and np.array_equal(one.rows, other.rows)
    ):
        raise wrong
    # Which code a value has is not laid down, so what the codes stand for is compared.
    codes = np.column_stack((one.values, other.values))
    for code, right_code in np.unique(codes, axis=0).tolist():
        values = (said.values.get(code), made.values.get(right_code))
        numbers = (said.numbers[code], made.numbers[right_code])
        if values[0] != values[1] or not np.array_equal(*numbers, equal_nan=True):
            raise wrong


def check_event(event: Event) -> None:
    """Raise :class:`BundleError` for an event that no request could have led to."""
    match event:
        case MemoryVersion():
            check_version(event)
        case MemoryForgotten():
            _check_named(event.id, event.revision)
            if not all(math.isfinite(x or 0.0) for x in (event.base_level, event.bound)):
                raise BundleError(0, "it holds a forgetting for reasons that are no numbers")
        case MemoryPurged():
            _check_named(event.id, event.revision)
        case SpaceConfigured():
            _check_policy(event.forgetting)
        case MemoryLinked():
            _check_link(event.relation, event.weight)
        case MemoryConsolidated():
            _check_formed(event)
        case MemoryRecalled():
            if len(event.ids) != len(event.scores) or not all(map(math.isfinite, event.scores)):
                raise BundleError(0, "it holds a recall whose scores make no sense")
        case ActivationSpread():
            lit = (event.ids, event.activations, event.hops)
            if len({len(each) for each in lit}) != 1 or not all(map(math.isfinite, lit[1])):
                raise BundleError(0, "it holds an activation that makes no sense")
        case SpaceDeleted():
            _check_us("purge_after_us", event.purge_after_us)
        case _:
            pass  # nothing in it is relied on


def check_version(version: MemoryVersion, *, husk_may_be: bool = False) -> None:
    """Raise :class:`BundleError` for a memory that no request could have stored."""
    _check_named(version.id, version.revision)
    for field in ("occurred_us", "expires_us"):
        _check_us(field, getattr(version, field))
    try:
        validate.check_confidence("confidence", version.confidence)
        if not (husk_may_be and is_husk(version)):
            validate.check_content("content", version.content)
        validate.check_metadata("metadata", version.metadata)
        validate.check_source("source", version.source)
        if validate.check_tags("tags", version.tags) != version.tags:
            raise Invalid.of("tags", "holds one twice")
    except (Invalid, TooLarge) as error:
        raise _cannot_be(error) from error


def _check_link(relation: str, weight: float) -> None:
    try:
        validate.check_relation("relation", relation)
        validate.check_weight("weight", weight)
    except Invalid as error:
        raise BundleError(0, f"it holds a link that cannot be: {error.detail}") from error


def _check_formed(event: MemoryConsolidated) -> None:
    _check_named(event.id, event.revision)
    for source, revision in zip(event.sources, event.revisions, strict=False):
        _check_named(source, revision)
    if len(event.sources) != len(event.revisions) or not math.isfinite(event.strength):
        raise BundleError(0, "it holds a belief formed of what makes no sense")
    for number, start, end in event.citations:
        if not (0 <= number < len(event.sources) and 0 <= start <= end <= CONTENT_BYTES_MAX):
            raise BundleError(0, "it holds a belief that cites what it does not have")
    if len(event.summariser) > SUMMARISER_CHARACTERS_MAX:
        raise BundleError(0, "it holds a belief of a summariser with no name")


def _check_policy(policy: Forgetting) -> None:
    try:
        if check_forgetting("forgetting", policy) != policy:
            raise Invalid.of("forgetting", "spares something twice, or out of order")
    except Invalid as error:
        raise BundleError(0, f"it holds a policy that cannot be: {error.detail}") from error


def check_numbers(vectors: Array) -> None:
    if not np.isfinite(vectors).all():
        raise BundleError(0, "it holds a vector with what is no number")


def _check_named(memory_id: str, revision: int) -> None:
    try:
        validate.check_memory_id("id", memory_id)
        if not 1 <= revision <= POSITION_MAX:
            raise Invalid.of("revision", f"must lie between 1 and {POSITION_MAX}")
    except Invalid as error:
        raise _cannot_be(error) from error


def _check_us(field: str, time_us: int | None) -> None:
    if time_us is not None and not FIRST_US <= time_us <= LAST_US:
        raise BundleError(0, f"it holds a time outside of the years 1 to 9999 ({field})")


def _cannot_be(error: Invalid | TooLarge) -> BundleError:
    return BundleError(0, f"it holds a memory that cannot be: {error.detail}")
