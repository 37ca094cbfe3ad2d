"""Events and the states of processors, as immutable Python values.

Each class has one Avro schema of its name in `schemas/avro`, and one row in `schemas.topics`, which
registers it. Times are integers in microseconds since 1970 UTC, so that windows compare them at no
cost; `schemas.instants` converts them to and from text.
"""

from schemas.events.agents import AgentCommand, AgentEvent
from schemas.events.backtest import (
    BacktestCommand,
    BacktestProgress,
    Bar,
    BarChunk,
    JobState,
    JobStep,
)
from schemas.events.base import Event, Record
from schemas.events.books import (
    Book,
    BookPart,
    BookRisk,
    Holding,
    SeriesReturns,
    SeriesState,
    SeriesWanted,
)
from schemas.events.chat import ChatEvent, UserUpdate
from schemas.events.dashboard import (
    BoardState,
    DashboardUpdate,
    SourceState,
    WindowSlice,
    WindowTally,
    WindowTotal,
)
from schemas.events.market import Candle, CandleState, Trade, TradeBatch
from schemas.events.operations import DeadLetter, StreamRenewal
from schemas.events.risk import (
    AlertAck,
    ModelBacktest,
    OpenAlert,
    PortfolioState,
    RebuildDone,
    Return,
    ReturnBatch,
    RiskAlert,
    RiskEstimate,
    RiskLimit,
    RiskLimits,
    RiskMeasure,
    WatchState,
)
from schemas.events.training import StoryState, TaskStep, TrainingCommand, TrainingProgress

__all__ = [
    "AgentCommand",
    "AgentEvent",
    "AlertAck",
    "BacktestCommand",
    "BacktestProgress",
    "Bar",
    "BarChunk",
    "BoardState",
    "Book",
    "BookPart",
    "BookRisk",
    "Candle",
    "CandleState",
    "ChatEvent",
    "DashboardUpdate",
    "DeadLetter",
    "Event",
    "Holding",
    "JobState",
    "JobStep",
    "ModelBacktest",
    "OpenAlert",
    "PortfolioState",
    "RebuildDone",
    "Record",
    "Return",
    "ReturnBatch",
    "RiskAlert",
    "RiskEstimate",
    "RiskLimit",
    "RiskLimits",
    "RiskMeasure",
    "SeriesReturns",
    "SeriesState",
    "SeriesWanted",
    "SourceState",
    "StoryState",
    "StreamRenewal",
    "TaskStep",
    "Trade",
    "TradeBatch",
    "TrainingCommand",
    "TrainingProgress",
    "UserUpdate",
    "WatchState",
    "WindowSlice",
    "WindowTally",
    "WindowTotal",
]
