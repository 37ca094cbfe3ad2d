"""Which events say something, and which routes are about them."""

from typing import Any

import pytest

from schemas.events import (
    BacktestProgress,
    JobStep,
    Note,
    RiskAlert,
    RiskMeasure,
    TaskStep,
    TrainingProgress,
)
from schemas.run_ids import Owner, new_id
from stream_processors.notifications.routing import note_of, routes_for
from tests.stream_processors.notifications.conftest import AT_US, alert, note, route


def job(kind: str, run_id: str = "J") -> BacktestProgress:
    return BacktestProgress(
        backtest_id=run_id,
        progress=100.0,
        status="completed",
        message="no prices",
        results={},
        event_time_us=AT_US,
        job=JobStep(kind=kind, symbol="IBM", strategy="rsi"),
    )


def task(status: str, stage: str | None = None) -> TrainingProgress:
    return TrainingProgress(
        task_id="T",
        progress=100.0,
        status=status,
        message="",
        metrics={},
        event_time_us=AT_US,
        task=None if stage is None else TaskStep(stage=stage),
    )


def test_an_alert_says_what_it_is_about() -> None:
    found = note_of(alert("raised"))
    assert found == Note(
        note_id="a:raised",
        subject="alerts",
        entity_id="p",
        episode="a",
        state="raised",
        severity="high",
        text="p: VaR exceeded threshold: 0.0612 > 0.0500",
        event_time_us=AT_US,
        metric_name="var_95",
        metric_value=0.0612,
        threshold=0.05,
    )


def test_the_end_of_a_run_says_how_it_has_ended() -> None:
    texts = [found.text for event in (job("failed"), task("failed")) if (found := note_of(event))]
    assert texts == ["backtest J failed: no prices", "training run T failed"]


@pytest.mark.parametrize(
    ("event", "state", "severity"),
    [
        (alert("deescalated"), "deescalated", "high"),
        (alert("acknowledged"), "acknowledged", "high"),
        (alert("cleared"), "cleared", "high"),
        (alert("a word of others"), None, None),
        (job("completed"), "completed", "low"),
        (job("failed"), "failed", "high"),
        (job("cancelled"), "cancelled", "low"),
        (job("progress"), None, None),
        (task("completed"), "completed", "low"),
        (task("failed"), "failed", "high"),
        (task("failed", "FAILURE"), "failed", "high"),
        (task("running"), None, None),
        (
            RiskMeasure(
                portfolio_id="p",
                as_of_us=0,
                method="historical",
                status="ok",
                observations=0,
                event_id="e",
                source_topic="t",
                source_partition=0,
                source_offset=0,
            ),
            None,
            None,
        ),
    ],
)
def test_ends_and_alerts_say_something(
    event: RiskAlert | BacktestProgress, state: str | None, severity: str | None
) -> None:
    found = note_of(event)
    assert (found and found.state, found and found.severity) == (state, severity)


@pytest.mark.parametrize(
    ("values", "is_sent"),
    [
        ({}, True),
        ({"subjects": ["jobs"]}, False),
        ({"severities": ["low", "critical"]}, False),
        ({"severities": ["high"]}, True),
        ({"entities": ["desk-*"]}, False),
        ({"entities": ["desk-*", "p"]}, True),
        ({"closed": True}, False),
    ],
)
def test_a_route_is_about_what_its_settings_say(values: dict[str, Any], *, is_sent: bool) -> None:
    settings = route(**values)
    assert list(routes_for(note(), [settings])) == ([settings] if is_sent else [])


def test_an_end_passes_whatever_its_severity_since_the_start_may_have() -> None:
    settings = route(severities=["critical"])
    assert list(routes_for(note(state="cleared"), [settings])) == [settings]


def test_jobs_of_a_user_are_sent_by_routes_of_that_user_only() -> None:
    ann = Owner("acme", "ann")
    of_ann = note(subject="jobs", entity_id=new_id(AT_US, ann))
    own = route(owner_tenant="acme", set_by="ann")
    others = [
        route(owner_tenant="acme", set_by="bob"),
        route(owner_tenant="other", set_by="ann"),
        route(owner_tenant=None, set_by="ann"),
    ]
    assert list(routes_for(of_ann, [own, *others])) == [own]
    reported = note(subject="jobs", entity_id="nightly")
    assert list(routes_for(reported, [own, *others])) == [own, *others]
    assert list(routes_for(of_ann, [route()])) == [route()]  # set without a token
