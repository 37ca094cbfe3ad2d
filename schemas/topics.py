"""The catalogue of topics: the record that each carries, its key, and how long it is kept.

Each row registers its record class. Provisioning, producers, processors and edges read this table.
The key decides the partition, so the events of one entity are in order. Every topic stamps records
with the broker's time: replayed events of 2008 would otherwise be older than any retention time,
and Kafka would delete them at once. The time of what happened is in the event itself.
"""

from typing import NamedTuple

from schemas.events import (
    AgentCommand,
    AgentEvent,
    AlertAck,
    BacktestCommand,
    BacktestProgress,
    BarChunk,
    BoardState,
    Book,
    BookRisk,
    Candle,
    CandleState,
    ChatEvent,
    DashboardUpdate,
    DeadLetter,
    EdgeNode,
    InputGap,
    JobState,
    NotificationDelivery,
    NotificationQueue,
    NotificationRequest,
    NotificationRoute,
    OpenAlert,
    OperatorAction,
    PortfolioState,
    ProcessorPositions,
    RebuildDone,
    Record,
    ReturnBatch,
    RiskAlert,
    RiskHistory,
    RiskLimits,
    RiskMeasure,
    Scenario,
    SeriesReturns,
    SeriesState,
    SeriesWanted,
    StoryState,
    StreamRenewal,
    TopicGrowth,
    TradeBatch,
    TrainingCommand,
    TrainingProgress,
    UserUpdate,
    WindowTally,
)
from schemas.keys import encode_key
from schemas.registry import PARTITIONS, REGISTRY, Topic

__all__ = [
    "CATALOGUE",
    "PARTITIONS",
    "READ_AS_TABLES",
    "REGISTRY",
    "Topic",
    "TopicPartition",
    "has_rows",
    "key_of",
    "topic_of",
    "type_name",
]

HOUR_MS = 60 * 60 * 1000
DAY_MS = 24 * HOUR_MS
FOR_EVER_MS = -1


def _topic(
    name: str,
    record: type[Record],
    key: str | None,
    retention_ms: int | None,
    *,
    compacted: bool = False,
    partitions: int = PARTITIONS,
    also: tuple[type[Record], ...] = (),
    borrowed: tuple[type[Record], ...] = (),
) -> Topic:
    """Register one row: a topic's name, its record, the field of its key, and its retention."""
    topic = Topic(name, record, key, retention_ms, partitions, compacted, also, borrowed)
    return REGISTRY.register(topic)


TRAINING_EVENTS = _topic("training.events", TrainingProgress, "task_id", 7 * DAY_MS)
TRAINING_COMMANDS = _topic("training.commands", TrainingCommand, "task_id", 7 * DAY_MS)
TRAINING_TASKS = _topic("training.tasks", StoryState, "subject", 7 * DAY_MS, compacted=True)
BACKTEST_COMMANDS = _topic("backtest.commands", BacktestCommand, "job_id", 7 * DAY_MS)
BACKTEST_BARS = _topic("backtest.bars", BarChunk, "job_id", 30 * DAY_MS)
BACKTEST_JOBS = _topic("backtest.jobs", JobState, "job_id", 30 * DAY_MS, compacted=True)
BACKTEST_EVENTS = _topic("backtest.events", BacktestProgress, "backtest_id", 30 * DAY_MS)
PORTFOLIO_RETURNS = _topic("portfolio.returns", ReturnBatch, None, FOR_EVER_MS)
"""A rebuild computes measures and alerts from all returns, limits and acknowledgements."""
RISK_MEASURES = _topic("risk.measures", RiskMeasure, "portfolio_id", None, also=(InputGap,))
RISK_HISTORY = _topic("risk.history", RiskHistory, "portfolio_id", None)
RISK_ALERTS = _topic("risk.alerts", RiskAlert, "entity_id", 90 * DAY_MS)
RISK_LIMITS = _topic("risk.limits", RiskLimits, "portfolio_id", FOR_EVER_MS)
RISK_ACKS = _topic("risk.acks", AlertAck, "entity_id", FOR_EVER_MS)
RISK_OPEN = _topic("risk.open", OpenAlert, "alert_id", None)
RISK_SCENARIOS = _topic("risk.scenarios", Scenario, "name", FOR_EVER_MS)
"""Each partition has a copy of each scenario, since its portfolios and books need it."""
RISK_REBUILDS = _topic("risk.rebuilds", RebuildDone, None, 7 * DAY_MS)
RISK_BOOKS = _topic("risk.books", Book, "path", FOR_EVER_MS)
"""A tree's books share the partition of their root's name: the producer picks it. A rebuild
computes books from their past holdings and `risk.series`."""
RISK_WANTED = _topic("risk.wanted", SeriesWanted, "series_id", 7 * DAY_MS)
RISK_SERIES = _topic("risk.series", SeriesReturns, "root", FOR_EVER_MS)
RISK_BOOK_RISKS = _topic("risk.book_risks", BookRisk, "path", None)
RISK_BOOK_STATE = _topic(
    "risk.book_state",
    SeriesState,
    "series_id",
    None,
    borrowed=(Book, BookRisk, PortfolioState, Scenario),
)
DASHBOARD_TALLIES = _topic("dashboard.tallies", WindowTally, "board", DAY_MS)
DASHBOARD_BOARDS = _topic("dashboard.boards", BoardState, "board", None)
DASHBOARD_UPDATES = _topic("dashboard.updates", DashboardUpdate, "window_id", DAY_MS)
AGENT_COMMANDS = _topic("agent.commands", AgentCommand, "run_id", 7 * DAY_MS)
AGENT_EVENTS = _topic("agent.events", AgentEvent, "run_id", 7 * DAY_MS)
CHAT_MESSAGES = _topic("chat.messages", ChatEvent, "room", 7 * DAY_MS)
USER_UPDATES = _topic("user.updates", UserUpdate, "user_id", 7 * DAY_MS)
EDGE_RENEWALS = _topic("edge.renewals", StreamRenewal, "challenge", HOUR_MS)
EDGE_NODES = _topic("edge.nodes", EdgeNode, "node_id", DAY_MS, compacted=True, partitions=1)
MARKET_TRADES = _topic("market.trades", TradeBatch, "symbol", FOR_EVER_MS)
MARKET_CANDLES = _topic("market.candles", Candle, "symbol", FOR_EVER_MS)
MARKET_FORMING = _topic("market.forming", CandleState, "symbol", None)
DEAD_LETTERS = _topic("dead.letters", DeadLetter, None, 30 * DAY_MS)
RISK_STATE = _topic("risk.state", PortfolioState, "portfolio_id", None, borrowed=(Scenario,))
PROCESSOR_POSITIONS = _topic("processor.positions", ProcessorPositions, None, None)
NOTIFICATION_ROUTES = _topic("notification.routes", NotificationRoute, "name", None, partitions=1)
NOTIFICATION_REQUESTS = _topic("notification.requests", NotificationRequest, "route", 7 * DAY_MS)
NOTIFICATION_QUEUES = _topic("notification.queues", NotificationQueue, "route", None)
NOTIFICATION_DELIVERIES = _topic(
    "notification.deliveries", NotificationDelivery, "route", 30 * DAY_MS
)
TOPIC_GROWTHS = _topic("topic.growths", TopicGrowth, "growth_id", None, partitions=1)
OPERATOR_ACTIONS = _topic("operator.actions", OperatorAction, "subject", FOR_EVER_MS, partitions=1)
"""A dead letter is re-driven once: its record here is kept longer than the letter."""

CATALOGUE = tuple(dict.fromkeys(registration.topic for registration in REGISTRY))
"""The topics of this system."""

READ_AS_TABLES = frozenset((RISK_BOOKS, RISK_LIMITS, RISK_SCENARIOS))
"""The inputs of processors whose newest record of a key edges show, compacted or not. By a
tombstone, edges forget the key; the states of processors have tombstones of their own."""


class TopicPartition(NamedTuple):
    """A partition of a topic, by the topic's full name."""

    topic: str
    partition: int


def topic_of(record: Record) -> Topic:
    """Return the topic that carries a record.

    Raises:
        UnknownEvent: the record's class is not registered.
    """
    return REGISTRY.find(type(record)).topic


def key_of(record: Record, tenant: str | None = None) -> bytes | None:
    """Return the key of a tenant's record; None where its topic has none or its writer chooses it.

    Args:
        record: the record.
        tenant: the tenant that it is of; None for a record without one.
    """
    topic = topic_of(record)
    if topic.subject is None or not isinstance(record, topic.record):
        return None
    return encode_key(getattr(record, topic.subject), tenant)


def has_rows(topic: Topic) -> bool:
    """Return whether a tombstone lets the readers of a topic forget its key."""
    return topic.is_compacted or topic in READ_AS_TABLES


def type_name(record: type[Record]) -> str:
    """Return the CloudEvents type of a record class, as in `tapewire.RiskAlert`."""
    return f"tapewire.{record.__name__}"
