"""The catalogue: which log carries what, by which key, and how long.

Provisioning, producers, processors and edges all read this one table. The key decides the
partition, so the events of one entity are in order. Every topic stamps records with the broker's
time: records that replay 2008 would otherwise be older than any retention, and deleted at once.
What happened when is in the event itself.
"""

from dataclasses import dataclass

from schemas.errors import UnknownEvent
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
    JobState,
    OpenAlert,
    PortfolioState,
    RebuildDone,
    Record,
    ReturnBatch,
    RiskAlert,
    RiskLimits,
    RiskMeasure,
    SeriesReturns,
    SeriesState,
    SeriesWanted,
    StoryState,
    StreamRenewal,
    TradeBatch,
    TrainingCommand,
    TrainingProgress,
    UserUpdate,
    WindowTally,
)

PARTITIONS = 6
"""Of a topic that says nothing else: what three brokers share evenly, and two as well."""

HOUR_MS = 60 * 60 * 1000
DAY_MS = 24 * HOUR_MS
FOR_EVER_MS = -1


@dataclass(frozen=True, slots=True)
class Topic:
    """One row of the catalogue."""

    name: str
    record: type[Record]
    subject: str | None
    """The field that is the record's key; None where the producer picks the partition itself."""
    retention_ms: int | None
    """None: the newest of a key is kept for ever."""
    partitions: int = PARTITIONS
    compacted: bool = False
    """Whether only the newest of a key is kept, where there is a retention too."""

    def config(self) -> dict[str, str]:
        """Kafka's settings of the topic."""
        kept = {}
        if self.retention_ms is None or self.compacted:
            # Recovery reads every row that is not compacted yet, so compaction is kept eager.
            kept = {
                "cleanup.policy": "compact",
                "min.cleanable.dirty.ratio": "0.2",
                "max.compaction.lag.ms": "600000",
                "segment.ms": "600000",
            }
        if self.retention_ms is not None:
            policy = "compact,delete" if self.compacted else "delete"
            kept |= {"cleanup.policy": policy, "retention.ms": str(self.retention_ms)}
        return kept | {"message.timestamp.type": "LogAppendTime"}


TRAINING_EVENTS = Topic("training.events", TrainingProgress, "task_id", 7 * DAY_MS)
TRAINING_COMMANDS = Topic("training.commands", TrainingCommand, "task_id", 7 * DAY_MS)
TRAINING_TASKS = Topic("training.tasks", StoryState, "subject", 7 * DAY_MS, compacted=True)
BACKTEST_COMMANDS = Topic("backtest.commands", BacktestCommand, "job_id", 7 * DAY_MS)
BACKTEST_BARS = Topic("backtest.bars", BarChunk, "job_id", 30 * DAY_MS)
BACKTEST_JOBS = Topic("backtest.jobs", JobState, "job_id", 30 * DAY_MS, compacted=True)
BACKTEST_EVENTS = Topic("backtest.events", BacktestProgress, "backtest_id", 30 * DAY_MS)
PORTFOLIO_RETURNS = Topic("portfolio.returns", ReturnBatch, None, 30 * DAY_MS)
RISK_MEASURES = Topic("risk.measures", RiskMeasure, "portfolio_id", None)
RISK_ALERTS = Topic("risk.alerts", RiskAlert, "entity_id", 90 * DAY_MS)
RISK_LIMITS = Topic("risk.limits", RiskLimits, "portfolio_id", None)
RISK_ACKS = Topic("risk.acks", AlertAck, "entity_id", 90 * DAY_MS)
RISK_OPEN = Topic("risk.open", OpenAlert, "alert_id", None)
RISK_REBUILDS = Topic("risk.rebuilds", RebuildDone, None, 7 * DAY_MS)
RISK_BOOKS = Topic("risk.books", Book, "path", None)
"""A tree's books share the partition of their root's name: the producer picks it."""
RISK_WANTED = Topic("risk.wanted", SeriesWanted, "series_id", 7 * DAY_MS)
RISK_SERIES = Topic("risk.series", SeriesReturns, "root", 7 * DAY_MS)
RISK_BOOK_RISKS = Topic("risk.book_risks", BookRisk, "path", None)
RISK_BOOK_STATE = Topic("risk.book_state", SeriesState, "series_id", None)
DASHBOARD_TALLIES = Topic("dashboard.tallies", WindowTally, "board", DAY_MS)
DASHBOARD_BOARDS = Topic("dashboard.boards", BoardState, "board", None)
DASHBOARD_UPDATES = Topic("dashboard.updates", DashboardUpdate, "window_id", DAY_MS)
AGENT_COMMANDS = Topic("agent.commands", AgentCommand, "run_id", 7 * DAY_MS)
AGENT_EVENTS = Topic("agent.events", AgentEvent, "run_id", 7 * DAY_MS)
CHAT_MESSAGES = Topic("chat.messages", ChatEvent, "room", 7 * DAY_MS)
USER_UPDATES = Topic("user.updates", UserUpdate, "user_id", 7 * DAY_MS)
EDGE_RENEWALS = Topic("edge.renewals", StreamRenewal, "challenge", HOUR_MS)
MARKET_TRADES = Topic("market.trades", TradeBatch, "symbol", FOR_EVER_MS)
MARKET_CANDLES = Topic("market.candles", Candle, "symbol", FOR_EVER_MS)
MARKET_FORMING = Topic("market.forming", CandleState, "symbol", None)
DEAD_LETTERS = Topic("dead.letters", DeadLetter, None, 30 * DAY_MS)
RISK_STATE = Topic("risk.state", PortfolioState, "portfolio_id", None)

CATALOGUE = (
    TRAINING_EVENTS,
    TRAINING_COMMANDS,
    TRAINING_TASKS,
    BACKTEST_EVENTS,
    BACKTEST_COMMANDS,
    BACKTEST_BARS,
    BACKTEST_JOBS,
    PORTFOLIO_RETURNS,
    RISK_MEASURES,
    RISK_ALERTS,
    RISK_LIMITS,
    RISK_ACKS,
    RISK_OPEN,
    RISK_REBUILDS,
    RISK_BOOKS,
    RISK_WANTED,
    RISK_SERIES,
    RISK_BOOK_RISKS,
    RISK_BOOK_STATE,
    DASHBOARD_TALLIES,
    DASHBOARD_BOARDS,
    DASHBOARD_UPDATES,
    AGENT_COMMANDS,
    AGENT_EVENTS,
    CHAT_MESSAGES,
    USER_UPDATES,
    EDGE_RENEWALS,
    MARKET_TRADES,
    MARKET_CANDLES,
    MARKET_FORMING,
    DEAD_LETTERS,
    RISK_STATE,
)


def topic_of(record: Record) -> Topic:
    """The topic that carries a record.

    Raises:
        UnknownEvent: none does.
    """
    for topic in CATALOGUE:
        if topic.record is type(record):
            return topic
    carried = ", ".join(topic.record.__name__ for topic in CATALOGUE)
    raise UnknownEvent(f"no topic carries a {type(record).__name__}; they carry {carried}")


def key_of(record: Record) -> bytes | None:
    """A record's key: what it is about; None where its topic has none."""
    subject = topic_of(record).subject
    return None if subject is None else str(getattr(record, subject)).encode()


def type_name(record: type[Record]) -> str:
    """The CloudEvents type of a record, as in `tapewire.RiskAlert`."""
    return f"tapewire.{record.__name__}"
