"""Messages to values and back, by the descriptors of :mod:`engram.v1`. Free of gRPC.

Answers are made without a line for each field: a message and the struct it tells have fields of the
same names, so what can be said in one place is said once, and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, TypeVar, cast

import numpy as np
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

from engram.errors import Invalid
from engram.memory.model import Metadata, Vector
from engram.v1 import types_pb2

_M = TypeVar("_M", bound=Message)
_Tell = Callable[[Any], Any]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_US_PER_S: Final = 1_000_000
_INT64_MAX: Final = (1 << 63) - 1
_NS_PER_US: Final = 1_000
_NS_PER_S: Final = 1_000_000_000
_S_MIN: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
_S_MAX: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
_SCALAR: Final = {
    FieldDescriptor.CPPTYPE_INT32: int,
    FieldDescriptor.CPPTYPE_INT64: int,
    FieldDescriptor.CPPTYPE_DOUBLE: float,
}


def told(kind: type[_M], value: object) -> _M:
    """The message of that kind that tells a struct; what is None is left out."""
    return cast("_M", _teller(cast("Any", kind))(value))


@cache
def _teller(kind: type[Message]) -> _Tell:
    """How a struct becomes a message of a kind."""
    if kind is Timestamp:
        return _told_time
    if kind is types_pb2.Object:
        return told_object
    if kind is types_pb2.Value:
        return told_value
    if kind is types_pb2.Vector:
        return _told_vector
    declared = cast("Sequence[FieldDescriptor]", kind.DESCRIPTOR.fields)
    fields = [(field.name, _field_teller(field)) for field in declared]

    def tell(value: Any) -> Message:
        given = {}
        for name, field_teller in fields:
            try:
                item = getattr(value, name, None)
            except ValueError:
                continue  # the etag of a memory that has none
            if item is not None:
                given[name] = field_teller(item)
        return kind(**given)

    return tell


def _field_teller(field: FieldDescriptor) -> _Tell:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        item = _one_teller(field.message_type.fields_by_name["value"])
        return lambda value: {key: item(each) for key, each in value.items()}
    item = _one_teller(field)
    if field.is_repeated:
        return lambda value: [item(each) for each in value]
    return item


def _one_teller(field: FieldDescriptor) -> _Tell:
    if field.message_type is not None:
        kind = GetMessageClass(field.message_type)

        # Looked up when it is first used, for a kind may hold others of its own.
        return lambda value: _teller(cast("Any", kind))(value)
    if field.enum_type is not None:
        return _names(field.enum_type).__getitem__
    # What numpy calls a number, protobuf does not.
    return _SCALAR.get(field.cpp_type, _as_it_is)


def _as_it_is(value: object) -> object:
    return value


@cache
def _names(enum: EnumDescriptor) -> Mapping[str, int]:
    """The values of an enum by the names they have elsewhere: KIND_EPISODE is `episode`."""
    prefix = "".join(f"_{letter}" if letter.isupper() else letter for letter in enum.name)
    cut = len(prefix.removeprefix("_")) + 1
    return {value.name[cut:].lower(): value.number for value in enum.values if value.number}


def chosen(field: str, enum: EnumDescriptor, number: int) -> str | None:
    """The name of an enum's value; None for the one that stands for nothing. Raises Invalid."""
    if not number:
        return None
    for name, known in _names(enum).items():
        if known == number:
            return name
    names = ", ".join(value.name for value in enum.values if value.number)
    raise Invalid.of(field, f"{number} is no value of {enum.name}; there are {names}")


def _told_time(value: datetime) -> Timestamp:
    seconds, us = divmod((value - _EPOCH) // _MICROSECOND, _US_PER_S)
    return Timestamp(seconds=seconds, nanos=us * _NS_PER_US)


def given_time(field: str, given: Timestamp) -> datetime:
    """A time, to the microsecond. Raises :class:`Invalid`."""
    if not _S_MIN <= given.seconds <= _S_MAX:
        raise Invalid.of(field, "lies outside of the years 1 to 9999 in UTC")
    if not 0 <= given.nanos < _NS_PER_S:
        raise Invalid.of(field, f"has {given.nanos} nanoseconds; they are 0 to 999,999,999")
    return _EPOCH + timedelta(seconds=given.seconds, microseconds=given.nanos // _NS_PER_US)


def _told_vector(value: Vector) -> types_pb2.Vector:
    return types_pb2.Vector(values=value.tolist())


def given_vector(given: types_pb2.Vector) -> Vector:
    """float32, shape (components,)."""
    return np.array(given.values, np.float32)


def told_object(value: Mapping[str, Any]) -> types_pb2.Object:
    return types_pb2.Object(fields={key: told_value(item) for key, item in value.items()})


def told_value(value: object) -> types_pb2.Value:
    """A JSON value as a message."""
    match value:
        case None:
            return types_pb2.Value(null_value=True)
        case bool():
            return types_pb2.Value(bool_value=value)
        case int() if value > _INT64_MAX:
            return types_pb2.Value(uint_value=value)
        case int():
            return types_pb2.Value(int_value=value)
        case float():
            return types_pb2.Value(number_value=value)
        case str():
            return types_pb2.Value(string_value=value)
        case Mapping():
            return types_pb2.Value(object_value=told_object(value))
        case Iterable():
            items = [told_value(item) for item in value]
            return types_pb2.Value(list_value=types_pb2.List(values=items))
    raise TypeError(f"{type(value).__name__} is no JSON type")


def given_object(field: str, given: types_pb2.Object) -> Metadata:
    """A JSON object, its members in order of their names: a map has no order of its own.

    Raises :class:`Invalid` for a value of which nothing is set. What a value may be is the engine's
    to check.
    """
    return {key: _given_value(f"{field}.{key}", given.fields[key]) for key in sorted(given.fields)}


def _given_value(field: str, given: types_pb2.Value) -> Any:
    which = given.WhichOneof("kind")
    if which is None or (which == "null_value" and not given.null_value):
        raise Invalid.of(field, "is a Value of which nothing is set; null is null_value: true")
    match which:
        case "null_value":
            return None
        case "object_value":
            return given_object(field, given.object_value)
        case "list_value":
            values = given.list_value.values
            return [_given_value(f"{field}[{i}]", item) for i, item in enumerate(values)]
    return getattr(given, which)


def read(kind: type[_M], data: bytes) -> tuple[_M, Invalid | None]:
    """The message that some bytes hold, and what is to be said of what this version does not know
    of it, which the message is without then. Raises DecodeError.

    Protobuf would keep such fields in silence. They are looked for only if there are any.
    """
    message = kind.FromString(data)
    size = message.ByteSize()
    message.DiscardUnknownFields()
    if message.ByteSize() == size:
        return message, None
    for field, number, known in _unknown(kind.FromString(data), ""):
        return message, Invalid.of(field, f"unknown field number {number}; known are: {known}")
    return message, Invalid.of("request", "holds fields that this version does not know")


def _unknown(message: Message, path: str) -> Iterator[tuple[str, int, str]]:
    """(where, field number, fields known there) of what is unknown."""
    for unknown in cast("Iterable[Any]", UnknownFieldSet(message)):
        known = ", ".join(f"{field.name} = {field.number}" for field in message.DESCRIPTOR.fields)
        yield path or "request", unknown.field_number, known
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        name = f"{path}.{field.name}" if path else field.name
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for key, item in value.items():
                    yield from _unknown(item, f"{name}.{key}")
        elif field.is_repeated:
            for i, item in enumerate(value):
                yield from _unknown(item, f"{name}[{i}]")
        else:
            yield from _unknown(value, name)
