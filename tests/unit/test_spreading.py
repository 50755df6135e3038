"""Mode `spreading` against the documented formulas, written down once more in plain Python."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engram.cognition import matching
from engram.cognition.matching import DENSE_SHARE, Cue
from engram.cognition.recall import Wanted, recall
from engram.indexes.lexicon import K1, B
from engram.indexes.tokens import tokenise
from engram.memory.columns import compact
from engram.memory.decay import Decay
from engram.memory.events import (
    Event,
    MemoryConsolidated,
    MemoryForgotten,
    MemoryLinked,
    MemoryRecalled,
    MemoryRevised,
    MemoryStored,
)
from engram.memory.model import Filter, Hit, Spread
from engram.memory.payload import NO_VECTORS, Batch
from engram.memory.state import State

WORDS = ["deploy", "key", "monday", "lunch", "paris", "vault", "cat", "server", "noon", "rota"]
HEADS = ["", "", "Ada: ", "Paris vault. ", "Cat (tom): "]
texts = st.builds(
    lambda head, words: head + " ".join(words),
    st.sampled_from(HEADS),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=6),
)
vectors = st.tuples(*[st.integers(-3, 3).map(float)] * 3).filter(any)


class Turn(NamedTuple):
    """A memory that may be seen; `head` has the words of the name that it begins with."""

    id: str
    text: str
    source: str | None
    minute: int
    order: int
    vector: tuple[float, ...]
    own: float = 1.0
    kind: str = "episode"

    @property
    def head(self) -> list[str]:
        for mark in (":", ".", "("):
            if mark in self.text:
                return tokenise(
                    self.text[: min(self.text.index(m) for m in ":.(" if m in self.text)]
                )
        return tokenise(self.text) if len(self.text) <= 80 and len(self.text.split()) <= 8 else []


Links = dict[tuple[str, str, str], float]
"""Weights by source, target and relation."""
Beliefs = dict[str, set[str]]
"""What each rests on."""


Uses = dict[str, list[int]]
"""The times of the uses of each memory in microseconds, the first first."""
Company = dict[str, list[set[str]]]
"""Who was used along in each of the later ones."""


class Model:
    """All of it over lists and dictionaries."""

    def __init__(
        self, turns: list[Turn], links: Links, beliefs: Beliefs, uses: Uses, company: Company
    ) -> None:
        self.links = links
        self.beliefs = beliefs
        self.uses = uses
        self.company = company
        self.turns = {turn.id: turn for turn in turns}
        self.terms = {turn.id: tokenise(turn.text) for turn in turns}
        self.before, self.after = {}, {}
        for source in {turn.source for turn in turns} - {None}:
            chain = sorted(
                (turn for turn in turns if turn.source == source),
                key=lambda turn: (turn.minute, turn.order),
            )
            for first, second in pairwise(chain):
                self.before[second.id], self.after[first.id] = first.id, second.id
        self.holders: dict[str, set[str]] = defaultdict(set)
        for id_, terms in self.terms.items():
            for term in terms:
                self.holders[term].add(id_)

    def idf(self, term: str) -> float:
        df, n = len(self.holders[term]), len(self.turns)
        return math.log1p((n - df + 0.5) / (df + 0.5))

    def bm25(self, query: str) -> dict[str, dict[str, float]]:
        """What each term of the question adds to each memory."""
        mean = sum(map(len, self.terms.values())) / len(self.terms)
        found: dict[str, dict[str, float]] = {}
        for term in set(tokenise(query)):
            found[term] = {}
            for id_ in self.holders[term]:
                tf, length = self.terms[id_].count(term), len(self.terms[id_])
                norm = tf + K1 * (1 - B + B * length / mean)
                found[term][id_] = self.idf(term) * tf / norm
        return found

    def parts(self, query: str, vector: tuple[float, ...]) -> dict[str, tuple[float, float, float]]:
        """Similarity, lexical and window of each."""
        cosine = {id_: _cosine(turn.vector, vector) for id_, turn in self.turns.items()}
        words = self.bm25(query)
        three = {id_: (id_, self.before.get(id_), self.after.get(id_)) for id_ in self.turns}
        bm25 = {id_: sum(by.get(id_, 0) for by in words.values()) for id_ in self.turns}
        window_cosine = {
            id_: cosine[id_] + 0.5 * sum(cosine[n] for n in ns[1:] if n is not None)
            for id_, ns in three.items()
        }
        window_bm25 = {
            id_: sum(max(by.get(n, 0) for n in ns if n is not None) for by in words.values())
            for id_, ns in three.items()
        }
        own = _scaled(cosine, bm25)
        beside = _scaled(window_cosine, window_bm25)
        return {id_: (0.5 * own[id_][0], 0.5 * own[id_][1], 0.5 * sum(beside[id_])) for id_ in own}

    def leads_to(self, id_: str) -> dict[str, float]:
        kinds = [(1.0, self._time(id_)), (0.5, self._words(id_)), (1.0, self._mention(id_))]
        kinds += [(0.5, self._believed(id_)), (1.0, self._linked(id_))]
        kinds = [(weight, found) for weight, found in kinds if found]
        shares: dict[str, float] = defaultdict(float)
        for weight, found in kinds:
            for other, strength in found.items():
                shares[other] += weight * strength / sum(found.values())
        total = sum(weight for weight, _ in kinds)
        for other, times in self._recalled(id_).items():
            shares[other] += 0.5 * times / 32
            total += 0.5 * times / 32
        return {other: share / max(total, 0.5) for other, share in shares.items()}

    def _time(self, id_: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for step in (self.before, self.after):
            at: str | None = id_
            for weight in (1.0, 0.5):
                at = step.get(at) if at is not None else None
                if at is not None:
                    found[at] = weight
        return found

    def _strength(self, term: str) -> float:
        return math.sqrt(self.idf(term) / (len(self.holders[term]) - 1))

    def _words(self, id_: str) -> dict[str, float]:
        found: dict[str, float] = defaultdict(float)
        for term in set(self.terms[id_]):
            if 2 <= len(self.holders[term]) <= 8:
                for other in self.holders[term] - {id_}:
                    found[other] += self._strength(term)
        return _strongest(found)

    def _mention(self, id_: str) -> dict[str, float]:
        found: dict[str, float] = defaultdict(float)
        for other in self.turns.keys() - {id_}:
            for head_of, text_of in ((id_, other), (other, id_)):
                head = set(self.turns[head_of].head)
                if head and head <= set(self.terms[text_of]):
                    rarest = min(head, key=lambda term: (len(self.holders[term]), term))
                    if len(self.holders[rarest]) <= 16:
                        found[other] += self._strength(rarest)
        return _strongest(found)

    def _linked(self, id_: str) -> dict[str, float]:
        found: dict[str, float] = defaultdict(float)
        for (source, target, _), weight in self.links.items():
            for one, other in ((source, target), (target, source)):
                if one == id_ and other in self.turns:
                    found[other] += weight
        return found

    def _believed(self, id_: str) -> dict[str, float]:
        others = {belief for belief, sources in self.beliefs.items() if id_ in sources}
        return dict.fromkeys((others | self.beliefs.get(id_, set())) & self.turns.keys(), 1.0)

    def _recalled(self, id_: str) -> dict[str, float]:
        """How often the strongest were used along in the last sixteen uses."""
        found: dict[str, float] = defaultdict(float)
        for company in self.company[id_][-16:]:
            for other in company & self.turns.keys():
                found[other] += 1.0
        return _strongest(found)

    def activation(self, seeds: dict[str, float], how: Spread) -> dict[str, float]:
        lit: dict[str, float] = defaultdict(float)
        now = seeds
        for _ in range(how.max_hops):
            reached: dict[str, float] = defaultdict(float)
            for id_, value in now.items():
                if value >= how.threshold:
                    for other, share in self.leads_to(id_).items():
                        reached[other] += how.decay * value * share
            for id_, value in reached.items():
                lit[id_] += value
            now = reached
        return lit

    def used(self, id_: str, score: float, decay: Decay, now_us: int) -> tuple[float, float]:
        """Recency and frequency, beside what else a score is made of."""
        each = [_counts_for(max(now_us - time, 0), decay) for time in self.uses[id_]]
        if len(each) > 9:  # the last eight; the others by the mean over their time
            young, old = (max(now_us - self.uses[id_][at], 0) for at in (-8, 0))
            points = [young + (old - young) * (n + 0.5) / 2_000 for n in range(2_000)]
            mean = sum(_counts_for(point, decay) for point in points) / len(points)
            each = [mean] * (len(each) - 8) + each[-8:]
        last, total = each[-1], sum(each)
        squashed = [last / (1 + last), total / (1 + total) - last / (1 + last)]
        room = max(1 - score, 0) * decay.weight
        return round(room * squashed[0], 6), round(room * squashed[1], 6)

    def recall(self, query: str, vector: tuple[float, ...], how: Spread) -> dict[str, list[float]]:
        parts = {id_: [round(p, 6) for p in ps] for id_, ps in self.parts(query, vector).items()}
        scores = {id_: round(sum(ps), 6) for id_, ps in parts.items()}
        seeds = sorted(scores, key=lambda id_: (-scores[id_], id_))[:20]
        powers = {id_: max(scores[id_], 0) ** 4 for id_ in seeds}
        total = sum(powers.values()) or 1.0
        lit = self.activation({id_: power / total for id_, power in powers.items()}, how)
        strong = {id_: min(12.0 * value, 0.7) for id_, value in lit.items()}
        return {
            id_: [*ps, round(max(1 - scores[id_], 0) * strong.get(id_, 0.0), 6)]
            for id_, ps in parts.items()
        }


def _strongest(found: dict[str, float]) -> dict[str, float]:
    ordered = sorted((round(v, 12) for v in found.values()), reverse=True)
    if len(ordered) <= 8:
        return dict(found)
    bar = ordered[8] if ordered[8] < ordered[0] else 0.0
    return {id_: v for id_, v in found.items() if round(v, 12) > bar}


def _counts_for(age_us: float, decay: Decay) -> float:
    if decay.half_life_s is not None:
        return float(0.5 ** (age_us / 1e6 / decay.half_life_s))
    return 1.0 if decay.exponent is None else float((1 + age_us / 86.4e9) ** -decay.exponent)


def _cosine(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return (
        sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)
    )


def _scaled(cosine: dict[str, float], bm25: dict[str, float]) -> dict[str, tuple[float, float]]:
    low, high, most = min(cosine.values()), max(cosine.values()), max(bm25.values())
    return {
        id_: (
            0.4 * ((cosine[id_] - low) / (high - low) if high - low > 1e-6 else 1.0),
            0.6 * (bm25[id_] / most if most else 0.0),
        )
        for id_ in cosine
    }


def version(turn: Turn, revision: int) -> dict[str, Any]:
    return {
        "id": turn.id,
        "revision": revision,
        "kind": turn.kind,
        "content": turn.text,
        "tags": (),
        "metadata": {},
        "confidence": 1.0,
        "occurred_us": turn.minute * 60_000_000,
        "expires_us": None,
        "source": turn.source,
    }


class History:
    """Events applied to a state, and the memories that live behind them."""

    def __init__(self) -> None:
        self.state = State("alpha", 3)
        self.turns: dict[str, Turn] = {}
        self.links: Links = {}
        self.beliefs: Beliefs = {}
        self.uses: Uses = {}
        self.company: Company = {}
        self.position = 0

    def store(self, turn: Turn, revision: int = 1) -> None:
        kind = MemoryStored if revision == 1 else MemoryRevised
        self.apply(kind(**version(turn, revision)), [turn.vector])
        self.turns[turn.id] = turn._replace(order=self.position)
        if revision == 1:
            self.uses[turn.id] = [min(turn.minute * 60_000_000, self.position * 1_000)]
            self.company[turn.id] = []

    def forget(self, id_: str) -> None:
        self.apply(MemoryForgotten(id=id_, revision=1, reason="request"))
        del self.turns[id_]

    def link(self, source: str, target: str, relation: str, weight: float) -> None:
        self.apply(MemoryLinked(source=source, target=target, relation=relation, weight=weight))
        self.links[source, target, relation] = weight

    def believe(self, turn: Turn, sources: set[str]) -> None:
        self.store(turn)
        ids = tuple(sorted(sources))
        event = MemoryConsolidated(
            id=turn.id,
            revision=1,
            sources=ids,
            revisions=(1,) * len(ids),
            strength=0.9,
            citations=(),
            summariser="extractive",
        )
        self.apply(event)
        self.beliefs[turn.id] = sources

    def use(self, *ids: str, times: int = 1) -> None:
        event = MemoryRecalled(
            recall_id="r", mode="hybrid", query_digest=None, ids=ids, scores=(1.0,) * len(ids)
        )
        for _ in range(times):
            self.apply(event)
            for id_ in ids[:3]:
                self.uses[id_].append(self.position * 1_000)
                self.company[id_].append({*ids[:3]} - {id_})

    def apply(self, event: Event, vectors: list[tuple[float, ...]] | None = None) -> None:
        self.position += 1
        matrix = NO_VECTORS if vectors is None else np.array(vectors, np.float32)
        self.state.apply(Batch([event], matrix), self.position, self.position * 1_000_000)

    def reopened(self) -> None:
        """As from a checkpoint."""
        self.state.publish()
        self.state = State.of("alpha", 3, compact(self.state.freeze()))


def answers(history: History, cue: Cue, how: Spread, **more: Any) -> list[Hit]:
    history.state.publish()
    wanted = Wanted("spreading", 1_000, None, None, True, 0, how)._replace(**more)
    return recall(history.state.view, cue, wanted)


turns = st.tuples(texts, st.sampled_from([None, "a", "b"]), st.integers(0, 4), vectors)
steps = st.one_of(
    st.tuples(st.just("store"), turns),
    st.tuples(st.sampled_from(["forget", "revise"]), st.integers(0, 99)),
    st.tuples(
        st.just("link"),
        st.tuples(
            st.integers(0, 99),
            st.integers(1, 98),
            st.sampled_from(["causes", "is"]),
            st.sampled_from([0.25, 0.5, 1.0]),
        ),
    ),
    st.tuples(
        st.just("believe"),
        st.tuples(texts, vectors, st.lists(st.integers(0, 99), min_size=1, max_size=4)),
    ),
    st.tuples(
        st.just("use"),
        st.tuples(st.lists(st.integers(0, 99), max_size=5), st.sampled_from([1, 12])),
    ),
    st.tuples(st.sampled_from(["publish", "reopen"]), st.none()),
)
decays = st.builds(
    Decay,
    exponent=st.sampled_from([0.1, 0.5, 1.0, 4.0]),
    weight=st.sampled_from([0.0, 0.1, 1.0]),
) | st.builds(
    Decay,
    family=st.sampled_from(["exponential", "none"]),
    weight=st.sampled_from([0.3, 1.0]),
)
paces = st.builds(
    Spread,
    max_hops=st.integers(0, 4),
    decay=st.sampled_from([0.3, 0.5, 0.9]),
    threshold=st.just(0.0001),
)


def lived(history: History, what: list[tuple[str, Any]]) -> None:
    for number, (step, given_) in enumerate(what):
        if step == "store":
            history.store(Turn(f"m{number}", *given_[:3], 0, given_[3]))
        elif step in {"forget", "revise"} and history.turns:
            turn = sorted(history.turns.values())[given_ % len(history.turns)]
            if step == "forget":
                history.forget(turn.id)
            else:
                history.store(turn, revision=2)
        elif step == "link" and len(history.turns) > 1:
            ids, (one, away, relation, weight) = sorted(history.turns), given_
            source = one % len(ids)
            target = (source + 1 + away % (len(ids) - 1)) % len(ids)
            history.link(ids[source], ids[target], relation, weight)
        elif step == "believe" and history.turns:
            ids, (text, vector, numbers) = sorted(history.turns), given_
            belief = Turn(f"m{number}", text, None, 2, 0, vector, kind="belief")
            history.believe(belief, {ids[each % len(ids)] for each in numbers})
        elif step == "use" and history.turns:
            ids, (ats, times) = sorted(history.turns), given_
            history.use(*dict.fromkeys(ids[at % len(ids)] for at in ats), times=times)
        elif step == "publish":
            history.state.publish()
        elif step == "reopen":
            history.reopened()


@settings(deadline=None, max_examples=300)
@given(
    what=st.lists(steps, max_size=24),
    query=texts,
    vector=vectors,
    how=paces,
    dense_share=st.sampled_from([1, DENSE_SHARE]),
    decay=decays,
    now_us=st.sampled_from([0, 10_000, 40_000, 10**11, 10**14]),
    limit=st.integers(1, 12),
)
@example(
    # Equally near, but not by the last bit of a float32.
    what=[
        ("store", ("deploy", None, 0, (-1.0, -2.0, 3.0))),
        ("store", ("deploy", None, 0, (3.0, 1.0, -2.0))),
    ],
    query="deploy",
    vector=(-1.0, -2.0, -2.0),
    how=Spread(max_hops=0, decay=0.3),
    dense_share=DENSE_SHARE,
    decay=Decay(),
    now_us=0,
    limit=1,
)
def test_every_part_is_what_the_formulas_give(
    what: list[tuple[str, Any]],
    query: str,
    vector: tuple[float, ...],
    how: Spread,
    dense_share: int,
    decay: Decay,
    now_us: int,
    limit: int,
) -> None:
    """Over random histories, published and compacted anywhere; added up row by row, or for all."""
    history = History()
    lived(history, what)
    cue, asked = Cue(query, np.float32(vector)), {"decay": decay, "now_us": now_us}
    with mock.patch.object(matching, "DENSE_SHARE", dense_share):
        hits = answers(history, cue, how, **asked)
    found = {hit.memory.id: hit for hit in hits}
    assert found.keys() == history.turns.keys()
    if not found:
        return
    turns = list(history.turns.values())
    model = Model(turns, history.links, history.beliefs, history.uses, history.company)
    expected = model.recall(query, vector, how)
    for id_, hit in found.items():
        assert hit.why is not None
        told = [hit.why.similarity, hit.why.lexical, hit.why.window, hit.why.activation]
        assert told == pytest.approx(expected[id_], abs=2e-5)
        assert (len(hit.why.path) > 0) == (hit.why.activation > 0)
        uses = [hit.why.recency, hit.why.frequency]
        assert uses == pytest.approx(model.used(id_, sum(told), decay, now_us), abs=1e-5)
        assert hit.score == pytest.approx(sum(told) + sum(uses), abs=1e-9)
    assert list(found) == sorted(found, key=lambda id_: (-found[id_].score, id_))
    # Whose uses are looked at depends on how many are asked for, and that does not show.
    for mode in ("spreading", "hybrid"):
        whole, few = (
            answers(history, cue, how, mode=mode, limit=most, **asked) for most in (1_000, limit)
        )
        assert few == whole[:limit]
    for hit in whole:
        assert hit.why is not None
        told = [hit.why.similarity, hit.why.lexical]
        uses = [hit.why.recency, hit.why.frequency]
        assert uses == pytest.approx(model.used(hit.memory.id, sum(told), decay, now_us), abs=1e-5)
        assert hit.score == pytest.approx(sum(told) + sum(uses), abs=1e-9)


def conversation(history: History, *lines: str, source: str | None = "talk") -> None:
    for line in lines:
        number = len(history.turns)
        history.store(Turn(f"m{number}", line, source, number, 0, (1.0, 0.0, 0.0)))


FAR = Spread()


def answer(history: History, text: str, how: Spread = FAR, **more: Any) -> dict[str, Hit]:
    history.state.publish()
    wanted = Wanted("spreading", 1_000, None, None, True, 0, how)._replace(**more)
    return {hit.memory.id: hit for hit in recall(history.state.view, Cue(text, None), wanted)}


def test_a_path_leads_from_what_matched_over_each_association() -> None:
    history = History()
    conversation(history, "zebra crossing", "blue paint")
    conversation(history, "blue whale", source=None)
    found = answer(history, "zebra", Spread(max_hops=2, decay=0.2))
    assert set(found) == {"m0", "m1", "m2"}
    why = found["m2"].why
    assert why is not None
    assert [(s.from_id, s.to_id, s.relation) for s in why.path] == [
        ("m0", "m1", "time"),
        ("m1", "m2", "words"),
    ]
    assert why.positions == (1, 2, 3)
    assert [found[id_].hops for id_ in ("m0", "m2")] == [0, 2]
    (first,) = [step for step in why.path if step.from_id == "m0"]
    assert first.weight == 1.0
    # Of what m0 gave a fifth comes to m1, and a fifth of that goes on; m1, half a match by its
    # window, is a seed of a 16th of that. Of what m1 leads to words are .5, and time 1.
    shares = (16 / 17, 1 / 17)
    lit = (0.04 * shares[0] + 0.2 * shares[1]) * 0.5 / 1.5
    direct = why.similarity + why.lexical + why.window
    assert why.activation == pytest.approx((1 - direct) * 12 * lit, abs=1e-5)


def test_a_head_is_mentioned_wherever_all_of_it_stands() -> None:
    history = History()
    conversation(history, "Ada Lovelace: a mathematician", source=None)
    conversation(history, "they named it after Lovelace, and after Ada Byron too", source=None)
    conversation(history, "Ada is a programming language", source=None)
    found = answer(history, "mathematician")
    path = {id_: [s.relation for s in hit.why.path] for id_, hit in found.items() if hit.why}
    assert path["m1"] == ["mention"]
    assert path["m2"] == ["words"]


def test_what_a_match_reminds_of_stays_behind_the_match_itself() -> None:
    """Also where all of its activation goes to one other, and that one to many."""
    history = History()
    conversation(history, "zebra crossing paint", source=None)
    conversation(history, "paint, deploy and vault", "deploy rota", "vault rota", source=None)
    found = answer(history, "zebra crossing paint")
    assert next(iter(found)) == "m0"
    why = found["m1"].why
    assert why is not None
    direct = why.similarity + why.lexical + why.window
    assert why.activation == pytest.approx(0.7 * (1 - direct), abs=1e-6)


def test_links_lead_both_ways_and_are_named_on_the_path() -> None:
    history = History()
    conversation(history, "zebra crossing", "blue paint", "at lunch", source=None)
    history.state.publish()
    history.link("m1", "m0", "causes", 1.0)
    history.link("m1", "m2", "is", 0.25)
    found = answer(history, "zebra")
    why = found["m2"].why
    assert why is not None
    assert [(s.from_id, s.to_id, s.relation, s.weight) for s in why.path] == [
        ("m0", "m1", "causes", 1.0),
        ("m1", "m2", "is", 0.2),
    ]
    assert why.positions == (1, 2, 3, 4, 5)
    history.forget("m1")
    assert set(answer(history, "zebra")) == {"m0"}


def test_beliefs_lead_to_what_they_rest_on_and_back() -> None:
    history = History()
    lines = ("red apples", "green pears", "blue plums")
    conversation(history, *lines, source=None)
    belief = Turn("belief", "orchards", None, 9, 0, (0.0, 0.0, 1.0), kind="belief")
    history.believe(belief, {"m0", "m1"})
    found = answer(history, "apples")
    assert found["m1"].why is not None
    steps = [(s.from_id, s.to_id, s.relation) for s in found["m1"].why.path]
    assert steps == [("m0", "belief", "belief"), ("belief", "m1", "belief")]
    assert (found["belief"].hops, "m2" in found) == (1, False)
    history.forget("belief")
    assert "m1" not in answer(history, "apples")


ALONE = ("zebra crossing", "blue paint", "at lunch", "green pears")


def lit_by(found: dict[str, Hit], id_: str) -> float:
    why = found[id_].why
    assert why is not None
    assert {step.relation for step in why.path} <= {"recall"}
    return why.activation


def test_what_is_recalled_together_comes_up_with_each_other() -> None:
    """More with each time up to what is added at most, and what never came with it does not."""
    history = History()
    conversation(history, *ALONE, source=None)
    assert set(answer(history, "zebra")) == {"m0"}
    lit = []
    for _ in range(4):
        history.use("m0", "m1")
        found = answer(history, "zebra")
        assert list(found) == ["m0", "m1"]
        lit.append(lit_by(found, "m1"))
    # Half of what the match has goes on, a 32nd for each time, and counts twelvefold.
    assert lit == pytest.approx([0.1875, 0.375, 0.5625, 0.7], abs=1e-6)
    assert found["m1"].why.path[0].weight == 0.125  # type: ignore[union-attr]
    assert lit_by(answer(history, "paint"), "m0") == pytest.approx(0.7)


def test_one_recall_says_little_beside_what_the_memories_say_themselves() -> None:
    history = History()
    conversation(history, "zebra crossing", "blue paint")
    conversation(history, "at lunch", source=None)
    history.use("m0", "m2")
    found = answer(history, "zebra", Spread(max_hops=1))
    (step,) = found["m2"].why.path  # type: ignore[union-attr]
    assert (step.relation, step.weight) == ("recall", round(1 / 65, 6))  # 1/64 beside 1


def test_of_a_recall_the_three_best_count_and_of_these_what_lives() -> None:
    history = History()
    conversation(history, *ALONE, source=None)
    history.use("m3", "m1", "m0", "m2", times=9)
    found = answer(history, "zebra")
    assert set(found) == {"m0", "m1", "m3"}
    history.forget("m1")
    assert set(answer(history, "zebra")) == {"m0", "m3"}
    history.reopened()
    history.store(Turn("m1", ALONE[1], None, 9, 0, (1.0, 0.0, 0.0)))
    assert set(answer(history, "zebra")) == {"m0", "m3"}


def test_the_last_sixteen_uses_say_who_was_recalled_along() -> None:
    history = History()
    conversation(history, *ALONE, source=None)
    history.use("m0", "m1")
    history.use("m0", "m2", times=15)
    assert set(answer(history, "zebra")) == {"m0", "m1", "m2"}
    history.use("m0")
    assert set(answer(history, "zebra", Spread(max_hops=1))) == {"m0", "m2"}


def test_without_hops_nothing_is_lit() -> None:
    history = History()
    conversation(history, "zebra crossing", "blue paint", source=None)
    assert set(answer(history, "zebra", Spread(max_hops=0))) == {"m0"}
    assert set(answer(history, "zebra", Spread(decay=0.0))) == {"m0"}


def test_a_filter_decides_who_answers_and_not_who_is_thought_of() -> None:
    history = History()
    conversation(history, "zebra crossing", "blue paint", "at lunch")
    only = Filter(since=datetime.fromtimestamp(60, UTC))
    assert set(answer(history, "zebra", filter=only)) == {"m1", "m2"}


def test_what_is_forgotten_or_expired_leads_nowhere() -> None:
    history = History()
    conversation(history, "zebra crossing", "blue paint", "blue whale")
    history.forget("m1")
    history.state.publish()
    found = answer(history, "zebra")
    assert [(s.to_id, s.relation) for s in found["m2"].why.path] == [("m2", "time")]  # type: ignore[union-attr]
    fading = version(Turn("m3", "zebra stripes", None, 9, 0, (1.0, 0.0, 0.0)), 1)
    history.apply(MemoryStored(**{**fading, "expires_us": 1_000}), [(1.0, 0.0, 0.0)])
    assert "m3" in answer(history, "crossing", now_us=999)
    assert set(answer(history, "crossing", now_us=1_000)) == {"m0", "m2"}


def test_memories_given_as_cue_light_others_and_do_not_answer() -> None:
    history = History()
    conversation(history, "zebra crossing", "blue paint")
    history.store(Turn("m2", "at lunch", "talk", 2, 0, (0.0, 1.0, 0.0)))
    history.state.publish()
    cue = Cue(None, np.float32((0.0, 1.0, 0.0)), exclude=(0,))
    wanted = Wanted("spreading", 10, None, None, True, 0)
    found = {hit.memory.id: hit for hit in recall(history.state.view, cue, wanted)}
    assert set(found) == {"m1", "m2"}
    assert found["m1"].why.path[0].from_id == "m0"  # type: ignore[union-attr]


def test_a_hub_with_a_hundred_thousand_neighbours_lights_none_of_them_much() -> None:
    """A word that all have says nothing, and is not followed."""
    history = History()
    hub = [Turn(f"h{n:06}", "common word", "day", n, 0, (1.0, 0.0, 0.0)) for n in range(100_000)]
    versions = [MemoryStored(**version(turn, 1)) for turn in hub]
    matrix = np.tile(np.float32([1, 0, 0]), (len(hub), 1))
    history.state.apply(Batch(versions, matrix), 1, 0)
    history.position = len(hub)
    conversation(history, "zebra common word", source="day")
    found = answer(history, "zebra", limit=5)
    assert next(iter(found)) == "m0"
    assert {"h000000", "h000001"} <= set(found)  # of its own time
    assert not any(s.relation == "words" for hit in found.values() for s in hit.why.path)  # type: ignore[union-attr]


@given(
    order=st.permutations(range(8)),
    lines=st.lists(texts, min_size=8, max_size=8),
    query=texts,
)
def test_the_order_of_storing_does_not_show(order: list[int], lines: list[str], query: str) -> None:
    def stored(numbers: Iterable[int]) -> list[tuple[str, float, float, int]]:
        history = History()
        for number in numbers:
            source = f"s{number % 2}"
            vector = (1.0, float(number), 0.0)
            history.store(Turn(f"m{number}", lines[number], source, number, 0, vector))
        hits = answers(history, Cue(query, np.float32([1, 1, 0])), Spread())
        return [(h.memory.id, h.score, h.confidence.point, h.hops) for h in hits]

    assert stored(order) == stored(range(8))


def test_equal_histories_give_equal_answers_under_any_hash_seed() -> None:
    code = """
import msgspec, numpy as np
from tests.unit.test_spreading import History, conversation, answers
from engram.cognition.matching import Cue
from engram.memory.model import Spread
history = History()
conversation(history, "Ada: deploy key", "paris lunch", "deploy on monday", "lunch in paris")
conversation(history, "key vault", "Ada has a cat", source="other")
cue = Cue("deploy lunch", np.float32([1, 2, 3]))
print(msgspec.json.encode(answers(history, cue, Spread())))
"""
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            check=True,
        ).stdout
        for seed, threads in (("0", "1"), ("1", "2"), ("2", "4"))
    }
    assert len(told) == 1
    assert len(told.pop()) > 1_000
