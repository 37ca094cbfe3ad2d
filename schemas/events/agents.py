"""Runs of agents that answer messages."""

from dataclasses import dataclass

from schemas.bounds import Finite, Name, ObservedUs, SmallCount, Text
from schemas.vocabularies import AgentStepKind


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCommand:
    """A client asked for an answer to a message."""

    run_id: Name
    message: Text
    owner: Name | None = None
    """The `sub` of the caller; None for a caller without a token."""
    event_time_us: ObservedUs


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEvent:
    """A step of a run: routing, then the agent's answer in pieces of text."""

    run_id: Name
    kind: Name
    attempt: SmallCount = 1
    number: SmallCount = 0
    """The index of the step within its attempt."""
    agent_id: Name | None = None
    agent_name: Name | None = None
    protocol: Name | None = None
    confidence: Finite | None = None
    reasoning: Text | None = None
    text: Text | None = None
    """A piece of the answer, the start of a completed answer, or the reason of a failure."""
    event_time_us: ObservedUs

    @property
    def ends(self) -> bool:
        """Whether this is the last event of the run."""
        return self.kind in (AgentStepKind.COMPLETED, AgentStepKind.ERROR)

    @property
    def event_id(self) -> str:
        """The CloudEvents id; a step that is written again has the same id, and a run ends once."""
        step = "ended" if self.ends else f"{self.attempt}:{self.number}"
        return f"run:{self.run_id}:{step}"
