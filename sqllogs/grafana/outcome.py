"""What became of one file or one object of Grafana; printed by `manage.py provision_grafana`."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    FAILED = "failed"

    @classmethod
    def of(cls, before: object, after: object) -> "State":
        """Return the state of what was `before`, None if it was not there, and is `after` now."""
        if before is None:
            return cls.CREATED
        return cls.UNCHANGED if before == after else cls.UPDATED


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    kind: str
    name: str
    state: State
    words: str = ""
    """Why it failed, in the words of who refused it; or what else there is to say."""
