"""One example event of each name, for each channel: the source of the API's documentation.

The channels themselves render the examples, so that the documentation shows what clients get.
"""

from collections.abc import Sequence
from typing import Any

from schemas.events import (
    AgentEvent,
    BacktestProgress,
    BookPart,
    BookRisk,
    ChatEvent,
    DashboardUpdate,
    InputGap,
    JobState,
    JobStep,
    ModelBacktest,
    NotificationDelivery,
    Record,
    RiskAlert,
    RiskEstimate,
    RiskMeasure,
    TaskStep,
    TrainingProgress,
    UserUpdate,
)

_AT_US = 1_223_596_800_000_000
_MEASURED: dict[str, Any] = {
    "event_id": "m-1",
    "source_topic": "portfolio.returns",
    "source_partition": 2,
    "source_offset": 1_500,
}


def _progress(status: str, progress: float, task: TaskStep | None = None) -> TrainingProgress:
    return TrainingProgress(
        task_id="T1",
        progress=progress,
        status=status,
        message="epoch 4 of 10",
        metrics={"loss": 0.41, "accuracy": 0.87},
        event_time_us=_AT_US,
        task=task,
    )


def _job(kind: str, message: str, progress: float, **more: Any) -> BacktestProgress:
    return BacktestProgress(
        backtest_id="J1",
        progress=progress,
        status="running",
        message=message,
        current_date="2008-10-10",
        results={},
        event_time_us=_AT_US,
        job=JobStep(kind=kind, symbol="AAPL", strategy="rsi", **more),
    )


def _step(kind: str, text: str | None = None) -> AgentEvent:
    return AgentEvent(
        run_id="hZ4yJ0mJ3mQmT4n0v2G5xw",
        kind=kind,
        agent_id="arithmetic",
        agent_name="Arithmetic",
        protocol="local",
        confidence=0.93,
        reasoning="'2' '+' speaks for Arithmetic (93%)",
        text=text,
        event_time_us=_AT_US,
    )


def _part(series_id: str, *amounts: float) -> BookPart:
    return BookPart(series_id, False, *amounts)  # noqa: FBT003  # the part is no book


TRAINING: Sequence[Record] = [_progress("running", 40.0)]

BACKTEST: Sequence[Record] = [
    BacktestProgress(
        backtest_id="B1",
        progress=60.0,
        status="running",
        message="2008",
        current_date="2008-10-10",
        results={"total_return": 0.12, "sharpe_ratio": 0.8, "max_drawdown": 0.2},
        event_time_us=_AT_US,
    )
]

ALERTS: Sequence[Record] = [
    RiskAlert(
        alert_id="a-1",
        transition_id="a-1-1",
        alert_type="var_exceeded",
        state="raised",
        severity="high",
        message="VaR exceeded threshold: 0.0612 > 0.0500",
        metric_name="var_95",
        metric_value=0.0612,
        threshold=0.05,
        entity_type="portfolio",
        entity_id="MSFT",
        event_time_us=_AT_US,
    )
]

MEASURES: Sequence[Record] = [
    RiskMeasure(
        portfolio_id="MSFT",
        as_of_us=_AT_US,
        method="historical",
        status="ok",
        observations=250,
        var_95=0.0612,
        es_95=0.0801,
        volatility=0.41,
        estimates=[
            RiskEstimate(
                method="cornish_fisher",
                confidence=0.95,
                horizon=1,
                status="ok",
                var=0.0594,
                es=0.0876,
                as_of_us=_AT_US,
            )
        ],
        model_backtests=[
            ModelBacktest(
                confidence=0.99,
                observations=250,
                exceptions=4,
                zone="green",
                kupiec=0.77,
                kupiec_p=0.38,
                independence=0.13,
                independence_p=0.72,
                conditional_coverage=0.9,
                conditional_coverage_p=0.64,
            )
        ],
        **_MEASURED,
    ),
    InputGap(
        topic="portfolio.returns",
        partition=2,
        reason="topic_recreated",
        from_offset=1834,
        to_offset=0,
        event_time_us=_AT_US,
    ),
]

BOOKS: Sequence[Record] = [
    BookRisk(
        root="fund",
        book_id="tech",
        parent="fund",
        as_of_us=_AT_US,
        status="ok",
        observations=250,
        series=2,
        missing=[],
        value=12_000.0,
        nav=12_000.0,
        var_95=0.042,
        es_95=0.058,
        amounts={"var_95": 504.0, "es_95": 696.0},
        undiversified_95=561.0,
        scenario_us=_AT_US,
        estimates=[RiskEstimate("monte_carlo", 0.95, 1, "ok", _AT_US, 0.041, 0.052)],
        parts=[
            _part("AAPL", 19_000.0, 912.0, 0.05, 950.0, 405.0, 890.0, 1_204.0),
            _part("IBM", -7_000.0, 231.0, 0.064, -446.0, -220.0, -386.0, -508.0),
        ],
    )
]

NOTIFICATIONS: Sequence[Record] = [
    NotificationDelivery(
        route="on-call",
        message_id="6f4e7c1e-1f53-5b0a-9c55-0d0f5f1f2f4b",
        state="delivered",
        attempts=2,
        notes=1,
        note_ids=["f4c8b1f2-0f3e-5d1c-8a55-6d0c5f1f2f4b"],
        detail="answered 204",
        event_time_us=_AT_US,
    )
]

DASHBOARD: Sequence[Record] = [
    DashboardUpdate(
        window_id="1223596800000000+1000000",
        update_type="window",
        values={
            "returns": 4_000.0,
            "returns_per_s": 4_000.0,
            "risk_measures": 40.0,
            "alerts_raised": 1.0,
            "late": 2.0,
            "portfolios": 40.0,
            "portfolios_over_limit": 1.0,
            "alerts_open_high": 1.0,
            "jobs_running": 3.0,
        },
        event_time_us=_AT_US,
        window_start_us=_AT_US,
        window_end_us=_AT_US + 1_000_000,
        worst={"IBM": 1.22, "AAPL": 0.87},
    )
]

TRAINMODEL: Sequence[Record] = [
    _progress("started", 0.0, TaskStep(stage="PENDING")),
    _progress("started", 1.0, TaskStep(stage="FETCHING_DATA")),
    _progress("running", 75.0, TaskStep(stage="TRAINING_MODEL")),
    _progress("running", 95.0, TaskStep(stage="SAVING_MODEL")),
    _progress(
        "completed",
        100.0,
        TaskStep(stage="SUCCESS", details={"model_path": "models/gas/m.joblib"}),
    ),
    _progress("failed", 0.0, TaskStep(stage="FAILURE", error="the meter has too few hours")),
]

BACKTEST_JOB: Sequence[Record] = [
    _job("progress", "simulating 2008-10-10", 60.0, current_bar=2_170, total_bars=3_270),
    _job("transaction", "sold", 60.0, data='[{"time":"2008-10-10","side":"sell"}]'),
    _job("completed", "AAPL: +12.0%", 100.0, data='{"total_return":0.12,"trades":14}'),
    _job("failed", "there are no prices of XYZ; there are AAPL, FB, GOOG", 0.0),
    _job("cancelled", "cancelled", 60.0),
]

BACKTEST_JOBS: Sequence[Record] = [
    JobState(
        job_id="J1",
        status="running",
        progress=60.0,
        message="simulating 2008-10-10",
        symbol="AAPL",
        strategy="rsi",
        created_us=_AT_US,
        updated_us=_AT_US,
        partition=0,
        first_offset=0,
        last_offset=9,
    )
]

CHAT: Sequence[Record] = [
    ChatEvent(room="lobby", kind=kind, user="ann", message="hello", event_time_us=_AT_US)
    for kind in ("join", "message", "leave")
]

USER: Sequence[Record] = [
    UserUpdate(user_id="7", kind=kind, data='{"text":"done"}', event_time_us=_AT_US)
    for kind in ("update", "error", "fatal_error")
]

AGENT: Sequence[Record] = [
    _step("routing_started"),
    _step("routing_completed"),
    _step("agent_execution_started"),
    _step("response_chunk", "2+2 = "),
    _step("completed", "2+2 = 4"),
    _step("error", "there are no numbers in it"),
]
