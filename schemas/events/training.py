"""Events of training runs and training tasks."""

import json
from dataclasses import dataclass, field

from schemas.bounds import (
    Count,
    InstantUs,
    Integer,
    Json,
    Name,
    ObservedUs,
    Percentage,
    Real,
    SmallCount,
    Table,
    Text,
)
from schemas.vocabularies import RunStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStep:
    """The step of a training task. Each worker that takes up the task begins a new attempt."""

    stage: Name
    attempt: SmallCount = 1
    estimated_completion_us: InstantUs | None = None
    details: Table[Integer | Real | Text] = field(default_factory=dict)
    error: Text | None = None
    error_details: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """A training run made progress. `progress` is a percentage from 0 to 100.

    `status` is a `RunStatus`, or a word of the producer's own. `task` is set for a run that a
    `TrainingCommand` requested.
    """

    task_id: Name
    progress: Percentage
    status: Name
    message: Text
    metrics: Table[Real]
    """The metrics that are numbers."""
    event_time_us: ObservedUs
    task: TaskStep | None = None
    metrics_json: Json | None = None
    """All metrics as JSON, where they are not a map of numbers."""

    @property
    def all_metrics(self) -> object:
        """All metrics, also those that are no numbers."""
        return self.metrics if self.metrics_json is None else json.loads(self.metrics_json)

    @property
    def ends(self) -> bool:
        """Whether this is the last event of the run."""
        return self.status in (RunStatus.COMPLETED, RunStatus.FAILED)

    @property
    def event_id(self) -> str | None:
        """The CloudEvents id; a task's end has the same id whichever worker reports it."""
        return f"task:{self.task_id}:ended" if self.task is not None and self.ends else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCommand:
    """A client requested a forecast of a meter's consumption."""

    task_id: Name
    meter_id: Name
    meter_type: Name
    event_time_us: ObservedUs


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryState:
    """Where a task's events are in their partition of the event topic, and its status."""

    subject: Name
    status: Name
    partition: SmallCount
    first_offset: Count
    last_offset: Count
    ended: bool
    tenant: Name | None = None
