"""The versions of schemas that earlier releases write, for the time in which two releases run.

Readers read every version. A writer that is newer than some readers writes what all of them read.
"""

from collections.abc import Mapping

RELEASES: Mapping[str, Mapping[str, int]] = {
    "0.1.0": {
        "AgentCommand": 1,
        "AgentEvent": 1,
        "AlertAck": 1,
        "BacktestCommand": 2,
        "BacktestProgress": 2,
        "BarChunk": 1,
        "BoardState": 1,
        "Book": 1,
        "BookRisk": 2,
        "Candle": 1,
        "CandleState": 1,
        "ChatEvent": 1,
        "DashboardUpdate": 2,
        "DeadLetter": 1,
        "JobState": 3,
        "OpenAlert": 1,
        "PortfolioState": 3,
        "RebuildDone": 1,
        "ReturnBatch": 2,
        "RiskAlert": 1,
        "RiskLimits": 1,
        "RiskMeasure": 2,
        "SeriesReturns": 1,
        "SeriesState": 1,
        "SeriesWanted": 1,
        "StoryState": 2,
        "StreamRenewal": 1,
        "TradeBatch": 1,
        "TrainingCommand": 1,
        "TrainingProgress": 2,
        "UserUpdate": 1,
        "WindowTally": 3,
    },
}
"""For each earlier release the version of each record's schema, by the record's name."""
