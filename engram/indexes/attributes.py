"""Tags, kind, source and metadata, so that filters need not touch the memories themselves.

Theory of operation. Everything that can be asked for by equality is a posting whose key is a hash
of what is asked: this tag, this source, this value under this metadata key. Everything else that
can be asked about metadata starts from the posting "has this key", whose value is a code into a
table of values; a comparison is made once per distinct value found there and then applied to the
rows through their codes. Only the kind, which has few values and is never absent, is a dense
column. All of it is plain arrays and blobs.

Metadata values compare as JSON does it in Python: 1 equals 1.0 and differs from true; lists and
objects are equal as a whole. Order exists between two numbers and between two strings (by code
point), nowhere else. Comparisons of numbers are exact, also beyond 2**53: float64 decides where the
rounded numbers differ, and the few that round to the same float64 are compared as they are.

Keys are 64-bit hashes (BLAKE2b), which are not checked further: among a million tags and values two
coincide with a chance of 3e-8.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from engram.errors import Invalid
from engram.indexes.columns import BytesColumn, BytesView, GrowingColumn
from engram.indexes.postings import Postings, PostingsView, Run, kept_of
from engram.limits import FILTER_VALUES_MAX
from engram.memory.model import KINDS, Filter, Kind, Metadata
from engram.memory.validate import check_metadata

METADATA_OPERATORS: Final = ("$in", "$gt", "$gte", "$lt", "$lte", "$ne", "$exists")
# Distinct metadata values remembered, per space, for giving equal values one code.
INTERNED_MAX: Final = 4_096
# Longer material is hashed anew, and longer values get a code each time: caches stay small.
REMEMBERED_BYTES_MAX: Final = 256

_COMPARISONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_QUOTE: Final = ord('"')

BoolArray = npt.NDArray[np.bool_]
Float64Array = npt.NDArray[np.float64]


class Attributed(Protocol):
    """What has attributes: `NewMemory`, `Memory`, and the events that carry them."""

    @property
    def tags(self) -> Sequence[str]: ...
    @property
    def kind(self) -> str: ...
    @property
    def source(self) -> str | None: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...


def validate_metadata_filter(metadata: Metadata, field: str = "filter.metadata") -> Metadata:
    """Check the `metadata` of a filter; returns it as plain JSON values.

    Raises Invalid, naming the field, for an unknown operator and for an operand an operator cannot
    take.
    """
    checked = check_metadata(field, metadata)
    for key, condition in checked.items():
        if key.startswith("$"):
            raise Invalid.of(
                f"{field}.{key}",
                "no operator stands here: conditions are {key: value} or {key: {operator: value}}, "
                f"all of which must hold; known operators are {' '.join(METADATA_OPERATORS)}",
            )
        for name, operand in _operators(condition, f"{field}.{key}"):
            _check_operand(f"{field}.{key}.{name}", name, operand)
    return checked


def _operators(condition: Any, field: str) -> Iterable[tuple[str, Any]]:
    """The operators of a condition, () where it is a plain value to be equal to."""
    if not isinstance(condition, dict) or not any(name.startswith("$") for name in condition):
        return ()
    for name in condition:
        if name not in METADATA_OPERATORS:
            known = " ".join(METADATA_OPERATORS)
            raise Invalid.of(field, f"{name!r} is not an operator; known operators are {known}")
    return condition.items()


def _check_operand(field: str, name: str, operand: Any) -> None:
    if name == "$in":
        if not isinstance(operand, list):
            raise Invalid.of(field, "must be a list of values")
        if len(operand) > FILTER_VALUES_MAX:
            raise Invalid.of(field, f"at most {FILTER_VALUES_MAX} values are allowed")
    elif name == "$exists":
        if not isinstance(operand, bool):
            raise Invalid.of(field, "must be true or false")
    elif name in _COMPARISONS and not (_is_number(operand) or isinstance(operand, str)):
        raise Invalid.of(field, "must be a number or a string")


class AttributeColumns(NamedTuple):
    """Attributes as plain arrays: uint8 (rows,) kinds, and a table of distinct metadata values,
    JSON beside float64 (NaN for what is no number). Its entry 0 is nobody's value.
    """

    postings: Run
    kinds: npt.NDArray[np.uint8]
    values: BytesView
    numbers: Float64Array

    def kept(self, new_rows: npt.NDArray[np.int64]) -> AttributeColumns:
        """Those of the rows that are kept (see `postings.kept_of`), and only their values."""
        postings = kept_of(self.postings, new_rows)
        used = np.zeros(len(self.numbers), np.bool_)
        used[0] = True
        used[postings.values] = True
        codes = (np.cumsum(used) - 1).astype(np.uint32)
        return AttributeColumns(
            postings._replace(values=codes[postings.values]),
            self.kinds[new_rows >= 0],
            self.values.taken(used),
            self.numbers[used],
        )


class AttributesView:
    """The attributes as they were when captured; never changes."""

    __slots__ = ("_kinds", "_numbers", "_postings", "_values")

    def __init__(
        self,
        postings: PostingsView,
        kinds: npt.NDArray[np.uint8],
        values: BytesView,
        numbers: Float64Array,
    ) -> None:
        self._postings = postings
        self._kinds = kinds
        self._values = values
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._kinds)

    def columns(self) -> AttributeColumns:
        """All of it as plain arrays, for :meth:`Attributes.of`."""
        run = self._postings.merged()
        return AttributeColumns(run, self._kinds, self._values, self._numbers)

    def of_kind(self, kind: Kind, first: int = 0) -> BoolArray:
        """Which rows from `first` on are of a kind, bool (rows - first,)."""
        mask: BoolArray = self._kinds[first:] == KINDS.index(kind)
        return mask

    def mask(self, filter: Filter) -> BoolArray:
        """Which rows meet every condition on tags, kind, source and metadata: bool (rows,).

        `since` and `until` are the timeline's. Raises Invalid as `validate_metadata_filter` does.
        """
        mask = np.ones(len(self), np.bool_)
        for tag in filter.tags_all:
            mask &= self._having([_key("tag", tag)])
        if filter.tags_any:
            mask &= self._having([_key("tag", tag) for tag in filter.tags_any])
        if filter.kind is not None:
            mask &= self._kinds == KINDS.index(filter.kind)
        if filter.source is not None:
            mask &= self._having([_key("source", filter.source)])
        for key, condition in validate_metadata_filter(filter.metadata).items():
            operators = _operators(condition, key)
            if not operators:
                mask &= self._equal(key, [condition])
            for name, operand in operators:
                mask &= self._meeting(key, name, operand)
        return mask

    def _meeting(self, key: str, name: str, operand: Any) -> BoolArray:
        if name == "$in":
            return self._equal(key, operand)
        if name == "$ne":
            return ~self._equal(key, [operand])
        if name == "$exists":
            there = self._having([_key("key", key)])
            return there if operand else ~there
        return self._compared(key, _COMPARISONS[name], operand)

    def _having(self, keys: list[int]) -> BoolArray:
        mask = np.zeros(len(self), np.bool_)
        mask[self._postings.find(np.unique(np.array(keys, np.uint64))).rows] = True
        return mask

    def _equal(self, key: str, values: Iterable[Any]) -> BoolArray:
        return self._having([_value_key(key, _canonical(value)) for value in values])

    def _compared(self, key: str, compare: Callable[[Any, Any], Any], bound: Any) -> BoolArray:
        found = self._postings.find(np.array([_key("key", key)], np.uint64))
        held = np.zeros(len(self._values), np.bool_)
        held[found.values] = True
        codes = np.flatnonzero(held)
        if isinstance(bound, str):
            held[codes] = self._compared_texts(codes, compare, bound)
        else:
            held[codes] = self._compared_numbers(codes, compare, bound)
        mask = np.zeros(len(self), np.bool_)
        mask[found.rows[held[found.values]]] = True
        return mask

    def _compared_texts(
        self, codes: npt.NDArray[np.intp], compare: Callable[[Any, Any], Any], bound: str
    ) -> BoolArray:
        held = np.zeros(len(codes), np.bool_)
        if len(codes):
            texts = np.flatnonzero(self._values.data[self._values.offsets[codes]] == _QUOTE)
            held[texts] = [compare(text, bound) for text in self._texts(codes[texts])]
        return held

    def _texts(self, codes: npt.NDArray[np.intp]) -> list[str]:
        """The values of these codes, which are strings, decoded in one go."""
        # One copy of all values is far cheaper than a slice of the array for each.
        data, offsets = self._values.data.tobytes(), self._values.offsets
        ends = zip(offsets[codes].tolist(), offsets[codes + 1].tolist(), strict=True)
        return msgspec.json.decode(
            b"[%b]" % b",".join([data[first:end] for first, end in ends]), type=list[str]
        )

    def _compared_numbers(
        self, codes: npt.NDArray[np.intp], compare: Callable[[Any, Any], Any], bound: float
    ) -> BoolArray:
        numbers = self._numbers[codes]
        rounded = float(bound)
        # NaN stands for what is not a number, and compares false.
        held: BoolArray = compare(numbers, rounded)
        for at in np.flatnonzero(numbers == rounded).tolist():
            held[at] = compare(self._value(codes[at]), bound)
        return held

    def _value(self, code: np.intp) -> Any:
        return msgspec.json.decode(self._values.get(int(code)))


class Attributes:
    """The attributes of a space's rows."""

    __slots__ = ("_codes", "_kinds", "_numbers", "_postings", "_values")

    def __init__(self) -> None:
        self._postings = Postings(np.uint32)
        self._kinds = GrowingColumn(np.uint8)
        self._values = BytesColumn()
        self._numbers = GrowingColumn(np.float64)
        # What is beside a posting that has no value points here, and so at nobody's value.
        self._values.append(b"")
        self._numbers.append(np.nan)
        self._codes: dict[bytes, int] = {}

    @classmethod
    def of(cls, columns: AttributeColumns) -> Attributes:
        """Attributes that begin with what `columns` gave."""
        attributes = cls()
        attributes._postings = Postings.of(columns.postings)
        attributes._kinds = GrowingColumn.of(columns.kinds)
        attributes._values = BytesColumn.of(columns.values)
        attributes._numbers = GrowingColumn.of(columns.numbers)
        return attributes

    def __len__(self) -> int:
        return len(self._kinds)

    @property
    def nbytes(self) -> int:
        """Bytes of postings, kinds and values, without spare capacity."""
        parts = (self._postings, self._kinds, self._values, self._numbers)
        return sum(part.nbytes for part in parts)

    def extend(self, items: Sequence[Attributed]) -> None:
        """Append one row per item; metadata must be plain JSON values."""
        keys: list[int] = []
        rows: list[int] = []
        codes: list[int] = []
        for row, item in enumerate(items, len(self._kinds)):
            of_row = {_key("tag", tag): 0 for tag in item.tags}
            if item.source is not None:
                of_row[_key("source", item.source)] = 0
            for key, value in item.metadata.items():
                canonical = _canonical(value)
                of_row[_value_key(key, canonical)] = 0
                of_row[_key("key", key)] = self._code(canonical, value)
            keys.extend(of_row)
            codes.extend(of_row.values())
            rows.extend([row] * len(of_row))
        if keys:
            self._postings.extend(
                np.array(keys, np.uint64), np.array(rows, np.uint32), np.array(codes, np.uint32)
            )
        self._kinds.extend([KINDS.index(item.kind) for item in items])

    def view(self) -> AttributesView:
        """What is there now; stays as it is."""
        kinds = self._kinds.view()
        return AttributesView(
            self._postings.view(), kinds, self._values.view(), self._numbers.view()
        )

    def _code(self, canonical: bytes, value: Any) -> int:
        """The code of a value. Equal values mostly share one; nothing depends on it."""
        code = self._codes.get(canonical)
        if code is None:
            self._numbers.append(float(value) if _is_number(value) else np.nan)
            code = self._values.append(canonical)
            if len(canonical) <= REMEMBERED_BYTES_MAX:
                if len(self._codes) >= INTERNED_MAX:
                    self._codes.clear()
                self._codes[canonical] = code
        return code


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _canonical(value: Any) -> bytes:
    """JSON of a value such that equal values, and no others, give equal bytes."""
    if isinstance(value, float | list | tuple | dict):
        value = _with_whole_numbers(value)
    return msgspec.json.encode(value, order="sorted")


def _with_whole_numbers(value: Any) -> Any:
    """1.0 as 1, at any depth."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list | tuple):
        return [_with_whole_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: _with_whole_numbers(item) for key, item in value.items()}
    return value


def _key(what: str, name: str) -> int:
    return _hash(f"{what}\0{name}".encode("utf-8", "surrogatepass"))


def _value_key(key: str, canonical: bytes) -> int:
    name = key.encode("utf-8", "surrogatepass")
    # The length keeps key and value apart, whatever bytes they hold.
    return _hash(b"value\0%d\0%b%b" % (len(name), name, canonical))


def _hash(material: bytes) -> int:
    if len(material) <= REMEMBERED_BYTES_MAX:
        return _remembered_hash(material)
    return int.from_bytes(blake2b(material, digest_size=8).digest(), "little")


@lru_cache(maxsize=1 << 14)
def _remembered_hash(material: bytes) -> int:
    return int.from_bytes(blake2b(material, digest_size=8).digest(), "little")
