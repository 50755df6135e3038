"""What a migration says about itself: the plan before, the receipt after. Pure but for the ledger.

Lists of what was not carried are whole, so that nothing is dropped without a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from engram.migrate import ledger as states
from engram.migrate.copying import Copier, Plan
from engram.migrate.items import Source
from engram.migrate.ledger import Ledger
from engram.migrate.routing import FORMED

_THERE: Final = (states.DONE, states.COPIED)
_UNFINISHED: Final = (states.PENDING, states.LOST)


def plan_of(source: Source, made: Plan, ledger: Ledger) -> dict[str, Any]:
    """What would be done, by space."""
    rows = []
    for target in made.targets:
        counts, links = ledger.counts(target.id), ledger.link_counts(target.id)
        rows.append(
            {
                "memory_space_id": target.id,
                "exists": target.info is not None,
                "memories": sum(counts.values()),
                "bytes": ledger.size(target.id),
                "already_there": counts.get(states.DONE, 0),
                "conflicts": counts.get(states.CONFLICT, 0),
                "links": sum(links.values()),
            }
        )
    return {"from": dict(source.described()), "to": rows, **_left(ledger)}


def receipt_of(
    source: Source, made: Plan, ledger: Ledger, copier: Copier, infos: Mapping[str, Any]
) -> dict[str, Any]:
    """What was done. `infos` are descriptions of the spaces as they are now, by id."""
    rows = []
    for target in made.targets:
        counts, links = ledger.counts(target.id), ledger.link_counts(target.id)
        first, last = copier.positions.get(target.id, (None, None))
        here, there = ledger.digests(target.id)
        rows.append(
            {
                "memory_space_id": target.id,
                "space_uuid": infos[target.id].uuid,
                "created": target.id in copier.created,
                "memories": sum(counts.get(state, 0) for state in _THERE),
                "copied": counts.get(states.COPIED, 0),
                "already_there": counts.get(states.DONE, 0),
                "conflicts": counts.get(states.CONFLICT, 0),
                "expired_meanwhile": counts.get(states.EXPIRED, 0),
                "changed_meanwhile": counts.get(states.CHANGED, 0),
                "missing": sum(counts.get(state, 0) for state in _UNFINISHED),
                "bytes": ledger.size(target.id),
                "links": links.get(states.LINK_DONE, 0),
                "first_position": first,
                "last_position": last,
                "digest_here": here,
                "digest_there": there,
                "verified": here == there and not any(counts.get(s) for s in _UNFINISHED),
            }
        )
    return {"from": dict(source.described()), "to": rows, **_left(ledger)}


def _left(ledger: Ledger) -> dict[str, Any]:
    return {
        "stays": ledger.stayed(),
        "formed_beliefs": list(ledger.stayed_ids(FORMED)),
        "conflicts": [
            {"memory_space_id": space, "id": memory_id}
            for space, memory_id in ledger.named(states.CONFLICT)
        ],
        "links_not_carried": [
            {
                "source": link.source,
                "target": link.target,
                "relation": link.relation,
                "weight": link.weight,
                "why": link.state,
            }
            for link in ledger.links_left()
        ],
    }


def is_complete(receipt: Mapping[str, Any]) -> bool:
    """Whether all that was to go is where it was to go, and the same on both sides."""
    return all(row["verified"] for row in receipt["to"])


def problems_of(problems: Sequence[Any]) -> list[dict[str, str]]:
    return [problem._asdict() for problem in problems]
