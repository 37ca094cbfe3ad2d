"""How OpenAPI describes a stream: its parameters, and each of its events as it really comes.

The examples are worded by the channels themselves, so that they cannot say anything else.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.codec import encode
from schemas.events import (
    AgentEvent,
    BacktestProgress,
    BookPart,
    BookRisk,
    ChatEvent,
    DashboardUpdate,
    JobState,
    JobStep,
    ModelBacktest,
    Record,
    RiskAlert,
    RiskEstimate,
    RiskMeasure,
    TaskStep,
    TrainingProgress,
    UserUpdate,
)
from sse_edge.frame import with_id
from sse_edge.streams.stream import CHANNELS, ONE_OF_MANY, Channel, render_value

_AT_US = 1_223_596_800_000_000
_CURSOR = b"AXRg_WkwRn0O6ykGAQAAAAAA"

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
    return BookPart(series_id, False, *amounts)  # noqa: FBT003  # it is no book


EXAMPLES: Mapping[str, Sequence[Record]] = {
    "training": [_progress("running", 40.0)],
    "backtest": [
        BacktestProgress(
            backtest_id="B1",
            progress=60.0,
            status="running",
            message="2008",
            current_date="2008-10-10",
            results={"total_return": 0.12, "sharpe_ratio": 0.8, "max_drawdown": 0.2},
            event_time_us=_AT_US,
        )
    ],
    "alerts": [
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
    ],
    "measures": [
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
        )
    ],
    "books": [
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
    ],
    "dashboard": [
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
    ],
    "trainmodel": [
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
    ],
    "backtest_job": [
        _job("progress", "simulating 2008-10-10", 60.0, current_bar=2_170, total_bars=3_270),
        _job("transaction", "sold", 60.0, data='[{"time":"2008-10-10","side":"sell"}]'),
        _job("completed", "AAPL: +12.0%", 100.0, data='{"total_return":0.12,"trades":14}'),
        _job("failed", "there are no prices of XYZ; there are AAPL, FB, GOOG", 0.0),
        _job("cancelled", "cancelled", 60.0),
    ],
    "backtest_jobs": [
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
    ],
    "chat": [
        ChatEvent(room="lobby", kind=kind, user="ann", message="hello", event_time_us=_AT_US)
        for kind in ("join", "message", "leave")
    ],
    "user": [
        UserUpdate(user_id="7", kind=kind, data='{"text":"done"}', event_time_us=_AT_US)
        for kind in ("update", "error", "fatal_error")
    ],
    "agent": [
        _step("routing_started"),
        _step("routing_completed"),
        _step("agent_execution_started"),
        _step("response_chunk", "2+2 = "),
        _step("completed", "2+2 = 4"),
        _step("error", "there are no numbers in it"),
    ],
}
"""For each channel, one event of each name."""


def responses(*channels: Channel) -> dict[int | str, dict[str, Any]]:
    """The answers of an endpoint that serves channels, with an example of each event."""
    shown = {}
    for channel in channels:
        for record in EXAMPLES[channel.name]:
            frame = render_value(channel, encode(record), _AT_US // 1000)
            assert frame is not None
            shown[frame.event] = {"value": with_id(frame.body, _CURSOR).decode()}
    stream = {"text/event-stream": {"schema": {"type": "string"}, "examples": shown}}
    return {
        200: {
            "description": "Server-sent events. Each event's id is the cursor after it: send it "
            "back as `Last-Event-ID`, to any node, to get everything that follows. "
            f"Events: {', '.join(shown)}.",
            "content": stream,
        },
        204: {"description": "The stream had ended before this cursor."},
        400: {"description": "A parameter or the cursor has no meaning; `detail` says why."},
        401: {"description": "A token is needed, or the one given is not good."},
        403: {"description": "It is somebody else's."},
        404: {"description": "There is no such thing."},
        406: {"description": "`Accept` excludes `text/event-stream`."},
        429: {"description": "This address, or user, holds as many connections as it may."},
        503: {"description": "No broker, or the node is on its way out."},
    }


def of(*names: str) -> dict[int | str, dict[str, Any]]:
    """As `responses`, of channels by their names."""
    return responses(*(CHANNELS[name] for name in names))


def of_many() -> dict[int | str, dict[str, Any]]:
    """As `responses`, of several channels in one connection."""
    return responses(*ONE_OF_MANY.values())


def _query(name: str, description: str, *allowed: str) -> dict[str, object]:
    schema: dict[str, object] = {"type": "string"}
    if allowed:
        schema |= {"enum": list(allowed), "default": allowed[0]}
    return {"name": name, "in": "query", "description": description, "schema": schema}


PARAMETERS: dict[str, object] = {
    "parameters": [
        {
            "name": "Last-Event-ID",
            "in": "header",
            "description": "the last id that was seen; browsers send it by themselves",
            "schema": {"type": "string"},
        },
        _query("last_event_id", "the same, for a first connection; the header wins"),
        _query("from", "where to begin without an id: earliest, latest or an RFC 3339 time"),
        _query("events", "names of the events to send, with commas between"),
        _query("on_gap", "what to do where events cannot be had any more", "continue", "close"),
        _query("checkpoint", "how a quiet client's cursor moves", "id", "event"),
        _query("slow", "what becomes of a slow client", "pause", "conflate", "close"),
        _query("client_id", "what the client calls itself"),
        _query("token", "who it is, where no header can be sent"),
    ]
}
"""What every stream takes."""

TOKEN: dict[str, object] = {
    "parameters": [_query("token", "who it is, where no header can be sent")]
}
"""What a list takes beside its own."""
