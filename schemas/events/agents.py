"""Runs of agents that answer messages."""

from dataclasses import dataclass

from schemas.vocabularies import AgentStepKind


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCommand:
    """A client asked for an answer to a message."""

    run_id: str
    message: str
    event_time_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEvent:
    """A step of a run: routing, then the agent's answer in pieces of text."""

    run_id: str
    kind: str
    attempt: int = 1
    number: int = 0
    """The index of the step within its attempt."""
    agent_id: str | None = None
    agent_name: str | None = None
    protocol: str | None = None
    confidence: float | None = None
    reasoning: str | None = None
    text: str | None = None
    """A piece of the answer, the start of a completed answer, or the reason of a failure."""
    event_time_us: int

    @property
    def ends(self) -> bool:
        """Whether this is the last event of the run."""
        return self.kind in (AgentStepKind.COMPLETED, AgentStepKind.ERROR)

    @property
    def event_id(self) -> str:
        """The CloudEvents id; a step that is written again has the same id, and a run ends once."""
        step = "ended" if self.ends else f"{self.attempt}:{self.number}"
        return f"run:{self.run_id}:{step}"
