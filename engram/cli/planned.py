"""How a space is to be made: what flags say, and else the section of the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from engram.cli.given import embedding_of, quotas_of
from engram.errors import SpaceExists
from engram.sections import Section

if TYPE_CHECKING:
    from engram import EmbeddingSpec, Quotas
    from engram.cli.connection import OpenSpace, Spaces
    from engram.memory.settings import SettingsGiven


class Plan(NamedTuple):
    """A space to be: None, or left out, is what it begins with anyway."""

    embedding: EmbeddingSpec | None
    quotas: Quotas | None
    settings: SettingsGiven

    def make(self, spaces: Spaces, space_id: str | None) -> OpenSpace:
        """Make it. Raises :class:`engram.errors.SpaceExists`."""
        space = spaces.create_space(space_id, embedding=self.embedding, quotas=self.quotas)
        if self.settings:
            space.configure(**self.settings)
        return space

    def ensure(self, spaces: Spaces, space_id: str) -> tuple[OpenSpace, bool]:
        """Make it if it is not there. Raises :class:`engram.errors.SpaceExists` for one that is
        there and is not as it was to be.
        """
        space, created = spaces.ensure_space(space_id, embedding=self.embedding, quotas=self.quotas)
        if not self.settings:
            return space, created
        if created:
            space.configure(**self.settings)
            return space, created
        info = space.info()
        for name, wanted in self.settings.items():
            if (has := getattr(info, name)) != wanted:
                raise SpaceExists(
                    f"space {space_id!r} exists with {name} {has}, and the configuration has "
                    f"{wanted}. Configure it, or leave that out of its section",
                    memory_space_id=space_id,
                )
        return space, created


def plan_of(
    section: Section,
    *,
    embedding: str | None = None,
    dimensions: int | None = None,
    quota: str | None = None,
) -> Plan:
    """What is given by flags, and by the section where they say nothing of it."""
    from engram.memory.settings import checked_setting

    if embedding is None and dimensions is None:
        said, long = section.get("embedding"), section.get("dimensions")
        embedding = None if said is None else str(said)
        dimensions = None if long is None else int(long)
    settings = {
        name: checked_setting(name, name, section[name])
        for name in ("retention", "decay", "forgetting", "consolidation")
        if name in section
    }
    if quota is None and "quotas" in section:
        quota = str(section["quotas"])
    return Plan(
        embedding_of(embedding, dimensions), quotas_of(quota), cast("SettingsGiven", settings)
    )
