"""A state as plain columns: what a checkpoint holds. Pure.

`compact` makes them of a frozen state. Of each id that somebody may still ask for it keeps the
newest row, and of the rows before that only the positions. What was purged leaves no row, and
neither does what ended, forgotten or purged, at a position up to which history goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from engram.indexes.answers import AnswerColumns, no_answers
from engram.indexes.attributes import AttributeColumns
from engram.indexes.beliefs import BeliefColumns, check_beliefs, no_beliefs
from engram.indexes.columns import BytesView, LayeredView
from engram.indexes.forward import ForwardColumns
from engram.indexes.links import LinkColumns, check_links, no_links
from engram.indexes.postings import Run, check_run, kept_of
from engram.indexes.sequences import SequenceColumns
from engram.indexes.uses import CompanyColumns, UseColumns
from engram.memory.retention import Retention
from engram.memory.settings import Settings, settings_column, settings_of

if TYPE_CHECKING:
    from engram.memory.state import Frozen
    from engram.memory.view import View

Array = npt.NDArray[Any]
Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Parts = list[Array]
"""Arrays that, behind each other, are one column."""


class Past(NamedTuple):
    """For each of the first rows the positions of what else happened to its id, ascending.

    Row i has `positions[starts[i] : starts[i + 1]]`, both int64.
    """

    starts: Int64Array
    positions: Int64Array

    def of(self, row: int) -> Int64Array:
        """The positions of a row; none for one behind the first ones."""
        if row + 1 >= len(self.starts):
            return self.positions[:0]
        return self.positions[self.starts[row] : self.starts[row + 1]]


NO_PAST: Final = Past(np.zeros(1, np.int64), np.empty(0, np.int64))


class StateColumns(NamedTuple):
    """A state up to `position`. Columns have one row for each memory version kept, ascending by
    position; `forgotten` pairs rows with the positions they were forgotten at; `vectors` are a
    float32 (rows, D) matrix and the inverse norms; `ids` hashes and rows; `restored` positions of
    restorations, ascending. `forward`, `sequences`, `uses` and `company` are None in files of
    before there were any; what the first two hold follows from the documents.
    """

    position: int
    settings: Settings
    purges: tuple[Int64Array, Int64Array]
    documents: BytesView
    positions: Int64Array
    stored_us: Int64Array
    expires_us: Int64Array
    confidences: npt.NDArray[np.float64]
    live: BoolArray
    vectors: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
    lexicon: tuple[Run, npt.NDArray[np.uint32]]
    attributes: AttributeColumns
    timeline: tuple[Int64Array, npt.NDArray[np.uint32]]
    ids: tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]
    forgotten: Int64Array
    past: Past
    forward: ForwardColumns | None
    sequences: SequenceColumns | None
    restored: Int64Array
    links: LinkColumns
    uses: UseColumns | None
    beliefs: BeliefColumns
    company: CompanyColumns | None
    answers: AnswerColumns

    def named(self) -> Iterator[tuple[str, Array]]:
        """The columns by the names that a file gives them; `from_named` reads them again."""
        yield "position", np.array([self.position], np.int64)
        retention = self.settings.retention
        kept = (retention.positions or 0, retention.age_s or 0)
        yield "retention", np.array(kept, np.int64)
        yield "settings", settings_column(self.settings)
        for prefix, value in zip(self._fields[2:], self[2:], strict=True):
            yield from _named(prefix, value)


def from_named(column: Mapping[str, Array]) -> StateColumns:
    """The columns of a file. Raises KeyError for one that is missing; but those of
    :data:`SINCE_LINKS` are all missing in one from before there were links.
    """

    def run(prefix: str) -> Run:
        return Run(*(column[f"{prefix}.{part}"] for part in Run._fields))

    later = not SINCE_LINKS.isdisjoint(column)
    positions, age_s = column["retention"].tolist()
    return StateColumns(
        position=int(column["position"][0]),
        settings=settings_of(
            Retention(positions=positions or None, age_s=age_s or None), column.get("settings")
        ),
        purges=(column["purges.0"], column["purges.1"]),
        documents=BytesView(column["documents.data"], column["documents.offsets"]),
        positions=column["positions"],
        stored_us=column["stored_us"],
        expires_us=column["expires_us"],
        confidences=column["confidences"],
        live=column["live"],
        vectors=(column["vectors.0"], column["vectors.1"]),
        lexicon=(run("lexicon.0"), column["lexicon.1"]),
        attributes=AttributeColumns(
            run("attributes.postings"),
            column["attributes.kinds"],
            BytesView(column["attributes.values.data"], column["attributes.values.offsets"]),
            column["attributes.numbers"],
        ),
        timeline=(column["timeline.0"], column["timeline.1"]),
        ids=(column["ids.0"], column["ids.1"]),
        forgotten=column["forgotten"],
        past=Past(column["past.starts"], column["past.positions"]),
        forward=_newer("forward", ForwardColumns, column),
        sequences=_newer("sequences", SequenceColumns, column),
        restored=column["restored"] if later else np.empty(0, np.int64),
        links=_links_of(column) if later else no_links(),
        uses=_newer("uses", UseColumns, column),
        beliefs=_newer("beliefs", BeliefColumns, column) or no_beliefs(),
        company=_newer("company", CompanyColumns, column),
        answers=_answers_of(column),
    )


T = TypeVar("T", ForwardColumns, SequenceColumns, UseColumns, BeliefColumns, CompanyColumns)


def _newer(prefix: str, kind: type[T], column: Mapping[str, Array]) -> T | None:
    """Columns that the first checkpoints did not have."""
    names = [f"{prefix}.{field}" for field in kind._fields]
    return None if names[0] not in column else kind(*(column[name] for name in names))


def _answers_of(column: Mapping[str, Array]) -> AnswerColumns:
    if "answers.times_us" not in column:
        return no_answers()
    documents, names = (
        BytesView(column[f"answers.{part}.data"], column[f"answers.{part}.offsets"])
        for part in ("documents", "names")
    )
    return AnswerColumns(documents, column["answers.times_us"], column["answers.positions"], names)


def _links_of(column: Mapping[str, Array]) -> LinkColumns:
    parts: list[Any] = [column[f"links.{part}"] for part in LinkColumns._fields[:-1]]
    parts.append(BytesView(column["links.names.data"], column["links.names.offsets"]))
    return LinkColumns(*parts)


def _named(prefix: str, value: Any) -> Iterator[tuple[str, Array]]:
    if isinstance(value, np.ndarray):
        yield prefix, value
    elif isinstance(value, BytesView):
        yield f"{prefix}.data", value.data
        yield f"{prefix}.offsets", value.offsets
    elif value is not None:
        fields = getattr(value, "_fields", range(len(value)))
        for field, part in zip(fields, value, strict=True):
            yield from _named(f"{prefix}.{field}", part)


NOTHING_ANSWERED: Final = dict(_named("answers", no_answers()))
SINCE_LINKS: Final = frozenset(
    name
    for prefix, value in (("restored", NO_PAST.positions), ("links", no_links()))
    for name, _ in _named(prefix, value)
)
"""The columns that checkpoints have since there are links."""
_SINCE: Final = ("forward.", "sequences.", "settings", "uses.", "beliefs.", "company.", "answers.")


def newer_columns(names: Iterable[str]) -> tuple[frozenset[str], ...]:
    """Of the columns of a checkpoint those that the first ones did not have, by what came when."""
    since = {prefix: [n for n in names if n.startswith(prefix)] for prefix in _SINCE}
    return (SINCE_LINKS, *(frozenset(group) for group in since.values()))


def check_columns(columns: StateColumns, dimensions: int) -> None:
    """Raises :class:`ValueError` for columns that do not belong together."""
    rows = len(columns.live)
    postings, kinds, values, numbers = columns.attributes
    lengths = {
        len(columns.documents),
        len(columns.positions),
        len(columns.stored_us),
        len(columns.expires_us),
        len(columns.confidences),
        len(columns.vectors[1]),
        len(columns.lexicon[1]),
        len(kinds),
        len(columns.timeline[0]),
        len(columns.timeline[1]),
        len(columns.past.starts) - 1,
    }
    if lengths != {rows}:
        raise ValueError(f"its columns have {sorted({*lengths, rows})} rows")
    if columns.vectors[0].shape != (rows, dimensions):
        raise ValueError(f"its vectors have the shape {columns.vectors[0].shape}")
    shapes = (columns.forgotten.shape[1:], columns.purges[1].shape[1:])
    if shapes != ((2,), (3,)) or len(values) != len(numbers):
        raise ValueError("its columns have other shapes than they should")
    for run in (columns.lexicon[0], postings):
        check_run(run)
    check_links(columns.links, rows)
    check_beliefs(columns.beliefs, rows)
    columns.answers.check()
    for newer in (columns.forward, columns.sequences, columns.uses):
        if newer is not None:
            newer.check(rows)
    if columns.company is not None:
        if columns.uses is None:
            raise ValueError("it has the company of uses, but no uses")
        columns.company.check(columns.uses, rows)
    named = (columns.ids[1], columns.lexicon[0].rows, postings.rows, columns.timeline[1])
    for which in (*named, columns.forgotten[:, 0]):
        if len(which) and int(which.max()) >= rows:
            raise ValueError("its indexes name rows that it does not have")


def compact(
    frozen: Frozen,
    drop_to: int = 0,
    gone: Iterable[str] = (),
    back: Iterable[str] = (),
    ended_to: int | None = None,
) -> StateColumns:
    """A frozen state as columns, without what needs no row any more; see the module.

    History is going to begin behind `drop_to`. The ids in `gone` leave nothing either: they are
    purged, if later than this state is of. Those in `back` are restored later, and keep their rows
    for the sake of their links. What ended up to `ended_to` leaves no row; left out, that is where
    history is going to begin.
    """
    view, gone = frozen.view, frozenset(gone)
    newest, labels = _newest_of_each(view)
    purged = np.zeros(view.rows, np.bool_)
    purged[[*frozen.purged_rows.tolist(), *_rows_of(frozen, gone)]] = True
    ended = _ended_by(view, drop_to if ended_to is None else ended_to)
    ended[_rows_of(frozen, back)] = False
    kept = newest & ~purged[labels] & (view.live | ~ended)
    new_rows = np.where(kept, np.cumsum(kept) - 1, -1)
    run, lengths, forward = view.lexicon.columns()
    attributes = view.attributes.columns()
    times, timed_rows = view.timeline.columns()
    hashes, id_rows = frozen.ids.columns()
    ids_kept = new_rows[id_rows] >= 0
    times_kept = new_rows[timed_rows] >= 0
    forgotten = view.forgotten[new_rows[view.forgotten[:, 0]] >= 0]
    links, links_gone = view.links.kept(new_rows)
    return StateColumns(
        position=view.position,
        settings=frozen.settings,
        purges=frozen.purges.columns(),
        documents=_documents(view.documents, kept),
        positions=view.positions[kept],
        stored_us=view.stored_us[kept],
        expires_us=view.expires_us[kept],
        confidences=view.confidences[kept],
        live=view.live[kept],
        vectors=_vectors(view, kept),
        lexicon=(kept_of(run, new_rows), lengths[kept]),
        attributes=attributes.kept(new_rows),
        timeline=(times[times_kept], new_rows[timed_rows[times_kept]].astype(np.uint32)),
        ids=(hashes[ids_kept], new_rows[id_rows[ids_kept]].astype(np.uint32)),
        forgotten=np.column_stack((new_rows[forgotten[:, 0]], forgotten[:, 1])),
        forward=forward.kept(kept),
        sequences=view.sequences.columns().kept(kept),
        past=_past(view, labels, kept, drop_to, links_gone, purged),
        restored=_restored(frozen, drop_to, purged[labels]),
        links=links,
        uses=view.uses.kept(np.flatnonzero(kept)),
        beliefs=view.beliefs.kept(new_rows, labels, _lives_ended(view), drop_to),
        company=view.uses.kept_company(np.flatnonzero(kept), new_rows, view.links.newest),
        answers=frozen.answers.kept(drop_to, gone),
    )


def _rows_of(frozen: Frozen, ids: Iterable[str]) -> list[int]:
    return [row for memory_id in ids if (row := frozen.ids.get(memory_id)) is not None]


def _newest_of_each(view: View) -> tuple[BoolArray, Int64Array]:
    """Which rows are the newest of their id, bool (rows,), and for each row the newest of its id.

    Both count a purged id's rows before the purge apart from what came behind.
    """
    labels = np.arange(view.rows)
    revised = np.flatnonzero(view.previous >= 0)
    # A row's label is that of the one which follows it, so from the last to the first.
    for row, before in zip(
        revised[::-1].tolist(), view.previous[revised][::-1].tolist(), strict=True
    ):
        labels[before] = labels[row]
    return view.newest(), labels


def _ended_by(view: View, drop_to: int) -> BoolArray:
    """The rows to which the last thing happened at or before a position, bool (rows,)."""
    last = view.positions.copy()
    np.maximum.at(last, view.forgotten[:, 0], view.forgotten[:, 1])
    ended: BoolArray = last <= drop_to
    return ended


def _lives_ended(view: View) -> Int64Array:
    """For the row at which a life began the position at which another one of its id did, int64
    (rows,); 0 for all others.
    """
    ended = np.zeros(view.rows, np.int64)
    later = np.flatnonzero(view.previous >= 0)
    roots, before = (view.links.roots_of(rows) for rows in (later, view.previous[later]))
    another = roots != before
    ended[before[another]] = view.positions[later[another]]
    return ended


def _documents(documents: LayeredView, kept: BoolArray) -> BytesView:
    data, offsets = documents.parts()
    whole = BytesView(_joined(data), _joined(offsets))
    return whole if kept.all() else whole.taken(kept)


def _vectors(
    view: View, kept: BoolArray
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    matrices, norms, start = list[Array](), list[Array](), 0
    for matrix, inverse in view.vectors.parts:
        part = kept[start : start + len(inverse)]
        whole = bool(part.all())
        matrices.append(matrix if whole else matrix[part])
        norms.append(inverse if whole else inverse[part])
        start += len(inverse)
    return _joined(matrices), _joined(norms)


def _joined(parts: Parts) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _restored(frozen: Frozen, drop_to: int, purged: BoolArray) -> Int64Array:
    """The restorations that are part of history, which those of the purged rows are not."""
    view, positions = frozen.view, frozen.restored
    before = np.repeat(purged[: len(view.past.starts) - 1], np.diff(view.past.starts))
    gone = np.concatenate((view.positions[purged], view.past.positions[before]))
    kept: Int64Array = positions[(positions > drop_to) & ~np.isin(positions, gone)]
    return kept


def _past(
    view: View,
    labels: Int64Array,
    kept: BoolArray,
    drop_to: int,
    links_gone: Int64Array,
    purged: BoolArray,
) -> Past:
    """The positions, behind `drop_to`, of what is dropped of the ids that are kept. What links with
    a purged memory were is no part of the history of the other one either.
    """
    dropped = ~kept & kept[labels]
    ended = view.forgotten[dropped[view.forgotten[:, 0]]]
    counts = np.diff(view.past.starts)
    before = np.repeat(labels[: len(counts)], counts)
    linked = np.concatenate((links_gone, view.links.past))
    ends = labels[linked[:, :2]]
    rows = np.concatenate((labels[dropped], labels[ended[:, 0]], before, *ends.T))
    positions = np.concatenate(
        (view.positions[dropped], ended[:, 1], view.past.positions, *[linked[:, 2]] * 2)
    )
    wanted = kept[rows] & (positions > drop_to)
    if purged.any():
        with_purged = view.links.positions(np.flatnonzero(purged[labels]))
        wanted &= ~np.isin(positions, with_purged)
        wanted &= ~np.isin(positions, view.past.positions[purged[before]])
    rows, positions = rows[wanted], positions[wanted]
    order = np.lexsort((positions, rows))
    new_rows = np.cumsum(kept) - 1
    counted = np.bincount(new_rows[rows], minlength=int(kept.sum()))
    starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(counted, dtype=np.int64)))
    return Past(starts, positions[order])
