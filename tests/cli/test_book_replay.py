"""A replay of a book gives the alerts that were sent, with their ids."""

from typing import Any

import pytest

from cli.book_replay import as_json, of_days, replay_messages, run, table
from cli.errors import InvalidArgument
from kafka_io.settings import ProducerSettings
from schemas.events import Book, Holding, Return, RiskAlert, RiskLimit, RiskLimits, SeriesReturns
from schemas.topics import RISK_ALERTS, RISK_BOOKS, RISK_LIMITS, RISK_SERIES
from stream_processors.agents.books import Books
from stream_processors.settings import ProcessorSettings
from tests.support.messages import FakeMessage, admitted, message
from tests.support.processor_bench import NUMBER, ProcessorBench

DAY_US = 86_400_000_000
SETTINGS = ProcessorSettings(risk_methods=("historical",), risk_draws=100)


def log() -> list[FakeMessage]:
    """Return the messages of a book that exceeds its limit on day 121, and then is stale."""
    holding = Holding("IBM", 1.0, 10.0, 200 * DAY_US)
    quiet = [Return("IBM", day * DAY_US, 0.01 * (-1) ** day) for day in range(115)]
    limits = RiskLimits(
        portfolio_id="firm/desk",
        entity_type="book",
        limits=[RiskLimit("var_95_amount", 0.2)],
        stale_after_s=60.0,
        event_time_us=0,
    )
    return [
        message(
            RISK_BOOKS,
            Book(root="firm", book_id="desk", holdings=[holding], event_time_us=0),
            0,
        ),
        message(RISK_SERIES, SeriesReturns(root="firm", returns=quiet), 0),
        message(RISK_LIMITS, limits, 0),
        *(
            message(
                RISK_SERIES,
                SeriesReturns(root="firm", returns=[Return("IBM", day * DAY_US, -0.05)]),
                day - 114,
            )
            for day in range(115, 125)
        ),
    ]


async def test_the_alerts_are_those_that_were_sent() -> None:
    end_us = 10_000_000_000
    bench = ProcessorBench(Books(SETTINGS))
    sent: list[RiskAlert] = []
    for received in log():
        sent += (await bench.run([received])).sent(RISK_ALERTS, RiskAlert)
    sent += (await bench.tick(end_us)).sent(RISK_ALERTS, RiskAlert)
    assert [alert.state for alert in sent] == ["raised", "stale"]
    messages = [admitted(received) for received in log()]
    past = await replay_messages("firm/desk", messages, NUMBER, SETTINGS, end_us)
    assert past.alerts == sent
    assert past.risk is not None
    assert past.risk.observations == 125

    day_us = sent[0].event_time_us
    assert of_days(past, day_us, day_us + 1) == sent[:1]
    document: dict[str, Any] = as_json(past, sent[:1])
    assert [row["transition_id"] for row in document["alerts"]] == [sent[0].transition_id]
    assert document["risk"]["book_id"] == "desk"
    lines = table(past, sent[:1])
    assert lines[1].split()[1:4] == ["raised", "breach", "var_95_amount"]
    assert lines[-1].startswith("at the end of the log, firm/desk has VaR 0.50 at 95 %")


async def test_a_book_that_the_log_does_not_have_has_no_alerts() -> None:
    past = await replay_messages("firm/other", [admitted(log()[0])], NUMBER, SETTINGS, 0)
    assert table(past, []) == [
        "date        step           level     metric          message",
        "nothing has alerted",
        "firm/other is no book at the end of the log",
    ]
    assert as_json(past, []) == {"book": "firm/other", "alerts": [], "risk": None}


@pytest.mark.parametrize("name", ["firm", "firm/", "/desk", "firm/desk/x"])
def test_a_name_that_is_no_books_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="names no book; write ROOT/BOOK"):
        run(name, ProducerSettings(), None, SETTINGS)
