"""Undoing what was done: registered before the effect, run last-in first-out, never silently given up."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from models.report import Undone


@dataclass
class Compensation:
    """The undo of one effect; a no-op when the effect never happened."""

    what: str
    undo: Callable[[], Awaitable[None]]
    state: str = "registered"
    detail: str = ""

    def shown(self) -> Undone:
        """As the report shows it."""
        return Undone(what=self.what, state=self.state, detail=self.detail)


@dataclass
class Saga:
    """The compensations of one deployment, in the order in which their effects were begun."""

    compensations: list[Compensation] = field(default_factory=list)

    def register(self, what: str, undo: Callable[[], Awaitable[None]]) -> None:
        """Registers the undo of an effect that is about to begin."""
        self.compensations.append(Compensation(what, undo))

    def open(self) -> list[Compensation]:
        """What is still to be undone, the last effect first."""
        return [each for each in reversed(self.compensations) if each.state not in ("done", "skipped")]
