"""The closed vocabularies that this system writes into events.

A field of an event is a `str`, since other programs write events too. Code that writes an event
takes one of these types, so that the type checker sees a word that does not exist.
"""

from enum import StrEnum


class RunStatus(StrEnum):
    """The status of a training run or a backtest, as the reporter API takes it."""

    STARTED = "started"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


class TaskStage(StrEnum):
    """The stage of a training task."""

    PENDING = "PENDING"
    FETCHING_DATA = "FETCHING_DATA"
    TRAINING_MODEL = "TRAINING_MODEL"
    SAVING_MODEL = "SAVING_MODEL"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"


class MeterType(StrEnum):
    """The quantity that a meter measures."""

    ELECTRICITY = "electricity"
    GAS = "gas"
    WATER = "water"


class JobStepKind(StrEnum):
    """The kind of a backtest job's step."""

    SUBMITTED = "submitted"
    PROGRESS = "progress"
    TRANSACTION = "transaction"
    CANCEL_REQUESTED = "cancel_requested"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REMOVED = "removed"


class JobStatus(StrEnum):
    """The status of a backtest job."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Strategy(StrEnum):
    """The strategy of a backtest."""

    MOVING_AVERAGE_CROSSOVER = "moving_average_crossover"
    RSI = "rsi"
    BUY_AND_HOLD = "buy_and_hold"


class Fill(StrEnum):
    """The price at which a backtest fills an order, seen from the close that decided it."""

    NEXT_OPEN = "next_open"
    CLOSE = "close"


class Interval(StrEnum):
    """The interval of a bar or candle; stocks have daily bars only."""

    MINUTE = "minute"
    THREE_MINUTES = "3minute"
    DAY = "day"


class MeasureStatus(StrEnum):
    """How far a measure or an estimate of risk can be relied on."""

    OK = "ok"
    DEGENERATE = "degenerate"
    """All returns in the window are equal."""
    INSUFFICIENT_DATA = "insufficient_data"
    UNAVAILABLE = "unavailable"
    """An input or a result is not a finite number, or the method has none for the horizon."""
    OUT_OF_DOMAIN = "out_of_domain"
    """The method has no meaning for such returns; no alert is judged by it."""


class Metric(StrEnum):
    """A metric that can have a limit: VaR or expected shortfall, one period ahead."""

    VAR_95 = "var_95"
    ES_95 = "es_95"
    VAR_99 = "var_99"
    ES_99 = "es_99"


STRESS_LOSS = "stress_loss:"
"""The beginning of a further metric: the loss in the stress scenario whose name follows."""
STRESS_LOSS_AMOUNT = "stress_loss_amount:"
"""The same for the loss of a book in its currency."""


class ScenarioKind(StrEnum):
    """The source of a stress scenario's shocks."""

    HISTORICAL = "historical"
    """The returns of past days."""
    HYPOTHETICAL = "hypothetical"
    """Shocks that somebody gives."""


class OtherSeries(StrEnum):
    """How a stress scenario treats a series without a shock."""

    MISSING = "missing"
    """Its loss is unknown, and the series is named."""
    ZERO = "zero"
    """Its return is zero."""
    BETA = "beta"
    """It had a shock by its beta when the scenario was put; a series that is new since is
    missing."""


class TrafficLight(StrEnum):
    """The zone of a backtest of a VaR model, by the number of its exceptions."""

    GREEN = "green"
    YELLOW = "yellow"
    RED = "red"


class AlertTransition(StrEnum):
    """The change of an alert that a `RiskAlert` reports, in its field `state`."""

    RAISED = "raised"
    ESCALATED = "escalated"
    DEESCALATED = "deescalated"
    ACKNOWLEDGED = "acknowledged"
    CLEARED = "cleared"
    STALE = "stale"
    STALE_CLEARED = "stale_cleared"


class EntityType(StrEnum):
    """The kind of an entity that has limits and alerts."""

    PORTFOLIO = "portfolio"
    BOOK = "book"


class BookMetric(StrEnum):
    """A metric of a book that can have a limit."""

    VAR_95 = "var_95"
    ES_95 = "es_95"
    VAR_99 = "var_99"
    ES_99 = "es_99"
    VAR_95_AMOUNT = "var_95_amount"
    """An amount is in the currency of the book; the metrics above are fractions of its NAV."""
    ES_95_AMOUNT = "es_95_amount"
    VAR_99_AMOUNT = "var_99_amount"
    ES_99_AMOUNT = "es_99_amount"
    CONCENTRATION = "concentration"
    """The largest absolute value of a series, as a share of the gross value."""


class AlertType(StrEnum):
    """The type of the alerts that the risk processor raises."""

    VAR_EXCEEDED = "var_exceeded"
    ES_EXCEEDED = "es_exceeded"
    STRESS_EXCEEDED = "stress_exceeded"
    CONCENTRATION_EXCEEDED = "concentration_exceeded"
    MODEL_RED = "model_red"
    STALE_DATA = "stale_data"


class Severity(StrEnum):
    """The severity of an alert."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Destination(StrEnum):
    """The kind of receiver of a notification route."""

    WEBHOOK = "webhook"
    SLACK = "slack"
    TEAMS = "teams"
    EMAIL = "email"
    WEB_PUSH = "web_push"


class Subject(StrEnum):
    """The things that a notification can be about."""

    ALERTS = "alerts"
    JOBS = "jobs"
    """Backtests that have ended."""
    TASKS = "tasks"
    """Training runs that have ended."""
    TEST = "test"
    """A note that a person asked for, to see whether a route works."""


class DeliveryState(StrEnum):
    """The outcome of an attempt to send a message of a notification route."""

    DELIVERED = "delivered"
    RETRYING = "retrying"
    ABANDONED = "abandoned"


class AgentStepKind(StrEnum):
    """The kind of a step of an agent's run."""

    ROUTING_STARTED = "routing_started"
    ROUTING_COMPLETED = "routing_completed"
    AGENT_EXECUTION_STARTED = "agent_execution_started"
    RESPONSE_CHUNK = "response_chunk"
    COMPLETED = "completed"
    ERROR = "error"


class ChatEventKind(StrEnum):
    """The kind of an event in a chat room."""

    JOIN = "join"
    MESSAGE = "message"
    LEAVE = "leave"


class UserUpdateKind(StrEnum):
    """The kind of an update for one user; a fatal error ends the user's stream."""

    UPDATE = "update"
    ERROR = "error"
    FATAL_ERROR = "fatal_error"


class ReturnOutcome(StrEnum):
    """The effect that a return had on its portfolio's window."""

    ACCEPTED = "accepted"
    CORRECTED = "corrected"
    """Its version is higher than that of the value it replaced."""
    DUPLICATE = "duplicate"
    LATE = "late"
    FUTURE = "future"
    """Its event time is further ahead than is allowed."""
    REJECTED = "rejected"
    """It is not a finite number."""


class GapReason(StrEnum):
    """Why records are missing."""

    EXPIRED = "expired"
    """The log has deleted them."""
    TOPIC_RECREATED = "topic_recreated"
    """Their topic was deleted and created again."""
    FUTURE = "future"
    """The log ends before them: it has lost its end."""


class DeadLetterReason(StrEnum):
    """The reason why a record, or a part of it, could not be applied."""

    UNDECODABLE = "undecodable"
    TOO_LARGE = "too_large"
    UNEXPECTED_RECORD = "unexpected_record"
    UNRESOLVED_SCHEMA = "unresolved_schema"
    """A schema registry does not say how the record is to be read."""
    MISPLACED = "misplaced"
    """The record's key is not the one that its event has."""
    WRONG_PARTITION = "wrong_partition"
    """The record's partition is not the one that its key has."""
    FOREIGN = "foreign"
    """The record's key is of another tenant than its header."""
    INVALID = "invalid"
    FUTURE = "future"
    """The event's time is further ahead of its time in the log than is allowed."""
    LATE = "late"
    FAILED = "failed"
    """The record made its processor fail."""


class OperatorActionKind(StrEnum):
    """The actions of operators that the log keeps."""

    REDRIVE = "redrive"
    """The record of a dead letter was written to its topic again."""
    DISCARD = "discard"
    """A dead letter was set aside for good."""
    CLOSE_CONNECTION = "close_connection"
    """The connection of a client was closed."""
    REKEY = "rekey"
    """The records of tenants were given keys that name them."""
    ERASE_TENANT = "erase_tenant"
    """The rows of a tenant were deleted, and rebuilds pass over its earlier records."""
    CHANGE_RETENTION = "change_retention"
    """A topic was set to keep its records for another time."""
