"""Whatever is in the log, the commands that read it print a table, or say why they cannot."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from cli import rebuild, risk_replay
from cli.errors import NoHistory
from kafka_io.reader import ConsumedRecord
from kafka_io.settings import ProducerSettings
from schemas.codec import encode
from schemas.errors import Refused
from schemas.events import (
    AlertAck,
    InputGap,
    PortfolioState,
    Record,
    Return,
    ReturnBatch,
    RiskAlert,
    RiskLimits,
    RiskMeasure,
    Scenario,
)
from schemas.gate import admit
from schemas.instants import EARLIEST_US, LATEST_US
from schemas.topics import RISK_ACKS, RISK_LIMITS, RISK_SCENARIOS, Topic
from stream_processors.risk.confidence import ConfidenceLevel
from stream_processors.risk.estimates import METHODS
from stream_processors.risk.replay import ReplayQuery, replay
from stream_processors.risk.scope import Scope
from tests.support.strangers import EXAMPLES, by_schema, within_bounds

pytestmark = pytest.mark.strangers

any_draws = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    deadline=None,
    phases=set(Phase) - {Phase.explain},
)
SETTINGS = ProducerSettings()
DAY_US = 86_400_000_000
DAYS = 12

NUMBERS = st.sampled_from([0.01, -0.02, 0.0, 1e308, -1e308, 5e-324, float("inf"), float("nan")])
TIMES = st.integers(0, DAYS).map(lambda day: day * DAY_US)
"""Often the same one, and in any order."""


def admitted(*kinds: type[Record]) -> st.SearchStrategy[list[Record]]:
    """Return the records that a reader gets of what others have written."""
    values = st.one_of([make(kind) for kind in kinds for make in (by_schema, within_bounds)])
    return st.lists(values, max_size=6).map(
        lambda found: [record for value in found if (record := _admit_or_none(value)) is not None]
    )


def _admit_or_none(value: bytes) -> Record | None:
    try:
        return admit(value)
    except Refused:
        return None


def plausible() -> st.SearchStrategy[ReturnBatch]:
    """Return a batch of returns of one portfolio, long enough to be measured."""
    returns = st.builds(
        Return, st.just("p"), TIMES, NUMBERS | st.floats(-0.1, 0.1), st.sampled_from([1, 1, 2])
    )
    return st.builds(
        ReturnBatch, returns=st.lists(returns, max_size=30), lap=st.sampled_from([0, 0, 1])
    )


@any_draws
@given(data=st.data())
def test_a_replay_prints_a_table_or_a_reason(data: st.DataObject) -> None:
    batches = data.draw(admitted(ReturnBatch)) + data.draw(st.lists(plausible(), max_size=3))
    others: dict[Topic, list[Record]] = {
        RISK_LIMITS: data.draw(admitted(RiskLimits)),
        RISK_ACKS: data.draw(admitted(AlertAck)),
        RISK_SCENARIOS: data.draw(admitted(Scenario)),
    }
    query = ReplayQuery(
        portfolio_id="p",
        method=data.draw(st.sampled_from(METHODS)),
        level=ConfidenceLevel.of(data.draw(st.sampled_from(["0.6", "0.95"]))),
        limit=data.draw(st.sampled_from([None, 1e-9, 0.01, 1e9])),
        since_us=data.draw(st.sampled_from([0, 3 * DAY_US, EARLIEST_US])),
        until_us=data.draw(st.sampled_from([DAYS * DAY_US, LATEST_US])),
        window=data.draw(st.sampled_from([2, 5, 250])),
        observations_min=2,
    )
    log_s = data.draw(st.sampled_from([0.0, 1.0, LATEST_US / 1e6]))

    async def read_homes(topic: Topic, *_: object) -> list[ConsumedRecord]:
        records = others.get(topic, batches)
        return [
            ConsumedRecord(topic.name, 3, offset, log_s, b"p", encode(record), [])
            for offset, record in enumerate(records)
        ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(risk_replay, "read_homes", read_homes)
        try:
            result = risk_replay.run(query, SETTINGS)
        except NoHistory as error:
            assert str(error)  # noqa: PT017  # either outcome is right
        else:
            lines = risk_replay.table(result, query)
            assert lines[0].startswith("date")
            assert all(line.isprintable() for line in lines)


def test_a_replay_of_one_absurd_portfolio_is_drawn(tmp_path: Path) -> None:
    returns = [
        Return("p", day * DAY_US, value)
        for day, value in enumerate([0.01, -1e100, 1e100, 5e-324, 0.0, -0.5])
    ]
    query = ReplayQuery("p", "historical", ConfidenceLevel.of("0.6"), 0.01, 0, 2**60, 250, 2)
    result = replay(returns, query)
    assert len(result.days) == len(returns)
    past = risk_replay.Past(result)
    assert risk_replay.table(past, query)
    risk_replay.draw(past, query, tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()


KEYS = st.sampled_from([b"p", b"q", b"", b"\xff", b"t/p", b"\x00t\x00p", b"k" * 600])


@any_draws
@given(data=st.data())
async def test_a_rebuild_compares_whatever_the_two_pasts_hold(data: st.DataObject) -> None:
    async def read_table(topic: Topic, *_: Any) -> Mapping[bytes, Record]:
        assert topic.records in ((RiskMeasure, InputGap), (PortfolioState,))
        found = data.draw(admitted(*topic.records))
        return {data.draw(KEYS): record for record in found}

    async def read_keyed(*_: Any) -> list[tuple[bytes, Record]]:
        return [(data.draw(KEYS), record) for record in data.draw(admitted(RiskAlert))]

    tenant = data.draw(st.sampled_from([None, "", "t"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rebuild, "read_table", read_table)
        patch.setattr(rebuild, "read_keyed", read_keyed)
        difference = await rebuild.compare(SETTINGS, "v2", Scope(tenant))
    assert all(line.isprintable() for line in rebuild.lines_of(difference))
    assert "v2" in rebuild.in_words(difference, "v2")
