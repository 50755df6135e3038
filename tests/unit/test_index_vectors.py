from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engram.indexes.vectors import LiveMask, Vectors

D = 5
values = st.floats(-1e6, 1e6, width=32).map(lambda v: 0.0 if abs(v) < 1e-6 else v)
matrices = hnp.arrays(np.float32, st.tuples(st.integers(0, 30), st.just(D)), elements=values)
queries = hnp.arrays(np.float32, (D,), elements=values)


def vectors_of(matrix: np.ndarray) -> Vectors:
    vectors = Vectors(matrix.shape[1])
    vectors.extend(matrix)
    return vectors


@settings(deadline=None)
@given(matrices, queries)
def test_cosine_is_the_cosine(matrix: np.ndarray, query: np.ndarray) -> None:
    scores = vectors_of(matrix).view().cosine(query)
    assert scores.dtype == np.float32
    wide, cue = matrix.astype(np.float64), query.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1) * np.linalg.norm(cue)
    expected = np.divide(wide @ cue, lengths, out=np.zeros(len(wide)), where=lengths > 0)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert (np.abs(scores) <= 1).all()


@settings(deadline=None)
@given(matrices, queries, st.integers(1, 7))
def test_scores_do_not_depend_on_batches_nor_on_other_rows(
    matrix: np.ndarray, query: np.ndarray, batch: int
) -> None:
    piecewise = Vectors(D)
    for first in range(0, len(matrix), batch):
        piecewise.extend(matrix[first : first + batch])
    scores = piecewise.view().cosine(query)
    assert scores.tobytes() == vectors_of(matrix).view().cosine(query).tobytes()
    for row in range(len(matrix)):
        alone = vectors_of(matrix[row : row + 1]).view().cosine(query)
        assert alone.tobytes() == scores[row : row + 1].tobytes()


def test_vectors_are_kept_as_given_and_views_stay() -> None:
    vectors = vectors_of(np.array([[3, 4], [0, 0]], np.float32))
    view = vectors.view()
    for _ in range(100):
        vectors.extend(np.ones((1, 2), np.float32))
    assert len(view) == 2
    assert view.row(0).tolist() == [3, 4]
    assert view.row(1).tolist() == [0, 0]
    assert view.cosine(np.array([3, 4], np.float32)).tolist() == [1, 0]
    assert len(vectors.view().cosine(np.array([3, 4], np.float32))) == 102
    for row in (2, -1):
        with pytest.raises(IndexError):
            view.row(row)


def test_a_query_without_direction_is_similar_to_nothing() -> None:
    view = vectors_of(np.ones((3, 2), np.float32)).view()
    assert view.cosine(np.zeros(2, np.float32)).tolist() == [0, 0, 0]


def test_very_long_and_very_short_vectors_have_finite_cosines() -> None:
    matrix = np.array([[3e38, 3e38], [1e-25, 0], [1e-45, 0]], np.float32)
    scores = vectors_of(matrix).view().cosine(np.array([1, 0], np.float32))
    np.testing.assert_allclose(scores, [2**-0.5, 1, 0], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_whole(bad: float) -> None:
    vectors = vectors_of(np.ones((1, 2), np.float32))
    with pytest.raises(ValueError, match="NaN or infinity"):
        vectors.extend(np.array([[1, 1], [bad, 1]], np.float32))
    with pytest.raises(ValueError, match="NaN or infinity"):
        vectors.view().cosine(np.array([bad, 1], np.float32))
    assert len(vectors) == len(vectors.view()) == 1


@pytest.mark.parametrize("shape", [(2,), (1, 3), (1, 1, 2)])
def test_vectors_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    vectors = Vectors(2)
    with pytest.raises(ValueError, match="take no"):
        vectors.extend(np.ones(shape, np.float32))
    with pytest.raises(ValueError, match="a query of shape"):
        vectors.view().cosine(np.ones(3, np.float32))


@settings(deadline=None)
@given(st.lists(st.one_of(st.integers(1, 40), st.just(0), st.integers(-60, -1)), max_size=40))
def test_the_mask_remembers_deaths_and_views_stay(steps: list[int]) -> None:
    mask = LiveMask()
    model: list[bool] = []
    views = []
    for step in steps:
        if step >= 0:
            mask.append(step)
            model += [True] * step
        elif -step <= len(model):
            assert mask.kill(len(model) + step) == model[step]
            model[step] = False
        views.append((mask.view(), list(model)))
    assert len(mask) == len(model)
    assert mask.live == sum(model)
    assert [mask.alive(row) for row in range(len(model))] == model
    assert all(view.tolist() == seen for view, seen in views)


def test_the_mask_is_copied_once_per_change() -> None:
    mask = LiveMask()
    mask.append(3)
    first = mask.view()
    assert mask.view() is first
    assert not first.flags.writeable
    assert mask.kill(1)
    second = mask.view()
    assert second is not first
    assert not mask.kill(1)  # dead already: nothing changed
    assert mask.view() is second


@pytest.mark.parametrize("row", [-1, 3])
def test_there_is_no_killing_beyond_the_end(row: int) -> None:
    mask = LiveMask()
    mask.append(3)
    assert not mask.alive(row)
    with pytest.raises(IndexError):
        mask.kill(row)
