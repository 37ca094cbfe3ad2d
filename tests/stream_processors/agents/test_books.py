"""The processor that measures trees of books, run without Kafka."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

from schemas.codec import decode
from schemas.erasures import Erasures
from schemas.events import (
    AlertAck,
    Book,
    BookRisk,
    DeadLetter,
    Holding,
    OpenAlert,
    Return,
    RiskAlert,
    RiskLimit,
    RiskLimits,
    Scenario,
    SeriesReturns,
    SeriesState,
    SeriesWanted,
    Shock,
)
from schemas.topics import (
    DEAD_LETTERS,
    RISK_ACKS,
    RISK_ALERTS,
    RISK_BOOK_RISKS,
    RISK_BOOK_STATE,
    RISK_BOOKS,
    RISK_LIMITS,
    RISK_OPEN,
    RISK_SCENARIOS,
    RISK_SERIES,
    RISK_WANTED,
)
from stream_processors.agents.books import Books
from stream_processors.settings import ProcessorSettings
from tests.support.messages import message
from tests.support.processor_bench import NUMBER, ProcessorBench

NEVER_US = 1 << 52
DAY_US = 86_400_000_000


def bench() -> ProcessorBench:
    return ProcessorBench(Books(ProcessorSettings(risk_methods=("historical",), risk_draws=100)))


def book(book_id: str = "desk", *, closed: bool = False, price: float = 10.0) -> Book:
    holdings = () if closed else (Holding("IBM", 1.0, price, NEVER_US),)
    return Book(root="firm", book_id=book_id, holdings=holdings, closed=closed, event_time_us=0)


def returns(count: int = 120) -> SeriesReturns:
    values = [Return("IBM", at * DAY_US, 0.01 * (-1) ** at) for at in range(count)]
    return SeriesReturns(root="firm", returns=values)


async def test_a_book_asks_for_its_series_and_is_measured_when_returns_arrive() -> None:
    made = bench()
    await made.run([message(RISK_BOOKS, book(), 0, tenant="acme")])
    [request] = made.journal.sent(RISK_WANTED, SeriesWanted)
    assert (request.series_id, request.root, request.wanted) == ("IBM", "firm", True)
    unmeasured = made.journal.sent(RISK_BOOK_RISKS, BookRisk)
    assert {risk.status for risk in unmeasured} == {"insufficient_data"}
    journal = await made.run([message(RISK_SERIES, returns(), 1, tenant="acme")])
    risks = {risk.book_id: risk for risk in journal.sent(RISK_BOOK_RISKS, BookRisk)}
    assert {name: risk.status for name, risk in risks.items()} == {"desk": "ok", "firm": "ok"}
    assert risks["firm"].amounts == risks["desk"].amounts
    assert journal.order == [RISK_BOOK_RISKS.name, RISK_BOOK_STATE.name]
    state = decode(journal.rows[RISK_BOOK_STATE.name, b"acme\xffseries:firm/IBM"])
    assert isinstance(state, SeriesState)
    assert (state.observations, state.tenant) == (120, "acme")
    simulated = decode(journal.rows[RISK_BOOK_STATE.name, b"acme\xffsimulated:firm/desk"])
    assert isinstance(simulated, BookRisk)
    assert simulated.tenant == "acme"
    assert {risk.tenant for risk in risks.values()} == {None}


async def test_a_closed_book_is_deleted_and_needs_no_returns() -> None:
    made = bench()
    await made.run([message(RISK_BOOKS, book(), 0)])
    journal = await made.run([message(RISK_BOOKS, book(closed=True), 1)])
    [request] = journal.sent(RISK_WANTED, SeriesWanted)
    assert not request.wanted
    assert journal.rows[RISK_BOOK_RISKS.name, b"firm/desk"] is None
    assert {journal.rows[RISK_BOOK_STATE.name, key] for key in (b"book:firm/desk",)} == {None}


async def test_a_book_that_is_closed_and_put_again_in_one_round_begins_without_returns() -> None:
    made = bench()
    await made.run([message(RISK_BOOKS, book(), 0)])
    again = [
        message(RISK_SERIES, returns(), 0),
        message(RISK_BOOKS, book(closed=True), 1),
        message(RISK_BOOKS, book(), 2),
    ]
    journal = await made.run(again)
    last = {risk.path: risk.status for risk in journal.sent(RISK_BOOK_RISKS, BookRisk)}
    assert last == dict.fromkeys(("firm/desk", "firm/firm"), "insufficient_data")
    assert journal.rows[RISK_BOOK_STATE.name, b"series:firm/IBM"] is None
    journal = await made.run([message(RISK_SERIES, returns(), 3)])
    assert {risk.status for risk in journal.sent(RISK_BOOK_RISKS, BookRisk)[-2:]} == {"ok"}


async def test_a_risk_that_is_there_again_has_ids_of_its_own() -> None:
    """As when holdings are changed and put back, or a book is closed and put again."""
    made, alerts, ids = bench(), list[RiskAlert](), list[str | None]()
    limit = RiskLimit("var_95_amount", 0.5)
    put = RiskLimits(portfolio_id="firm/desk", limits=[limit], entity_type="book", event_time_us=0)
    small = book(price=1.0)
    steps: Sequence[Sequence[RiskLimits | Book | SeriesReturns]] = (
        [put, small, returns()],
        [book(price=100.0)],
        [small],
        [book(price=100.0)],
        [book(closed=True)],
        [book(price=100.0), returns()],
        [day(120, 0.0)],
    )
    topics = {RiskLimits: RISK_LIMITS, Book: RISK_BOOKS, SeriesReturns: RISK_SERIES}
    for offset, records in enumerate(steps):
        journal = await made.run(
            [message(topics[type(record)], record, offset) for record in records]
        )
        alerts += journal.sent(RISK_ALERTS, RiskAlert)
        risks = journal.sent(RISK_BOOK_RISKS, BookRisk)
        ids += [risk.event_id for risk in risks if risk.path == "firm/desk"]
    assert [alert.state for alert in alerts] == ["raised", "cleared"] * 2 + ["raised"]
    assert len({alert.transition_id for alert in alerts}) == len(alerts)
    assert len({*ids}) == len(ids) > len(alerts)
    assert all(alert.measure_id in ids for alert in alerts)


async def test_a_rebuild_computes_one_tenants_books_and_passes_over_erased_ones() -> None:
    until_us = 1 << 59
    settings = ProcessorSettings(
        rebuild_version="v2",
        rebuild_tenant="acme",
        rebuild_erased=str(Erasures({sha256(b"acme").hexdigest(): until_us})),
    )
    made = ProcessorBench(Books(settings))
    later_s = (until_us + 1_000_000) / 1e6
    received = [
        message(RISK_BOOKS, book("erased"), 0, tenant="acme"),
        message(RISK_BOOKS, book("other"), 1, tenant="blue"),
        message(RISK_BOOKS, book("anew"), 2, tenant="acme")._replace(timestamp=later_s),
    ]
    journal = await made.run(received)
    risks = journal.sent(RISK_BOOK_RISKS, BookRisk)
    assert {risk.path for risk in risks} == {"firm/anew", "firm/firm"}
    assert journal.sent(RISK_WANTED, SeriesWanted) == [], "the log has the answers"


async def test_invalid_books_are_dead_letters() -> None:
    made = bench()
    journal = await made.run(
        [
            message(RISK_BOOKS, book(), 0, tenant="acme"),
            message(RISK_BOOKS, book("other", price=0.0), 2, tenant="acme"),
            message(RISK_BOOKS, b"nonsense", 3),
        ],
    )
    letters = journal.sent(DEAD_LETTERS, DeadLetter)
    assert [(letter.offset, letter.reason) for letter in letters] == [
        (2, "invalid"),
        (3, "undecodable"),
    ]


def limits(limit: float, metric: str = "var_95_amount", path: str = "firm/desk") -> RiskLimits:
    return RiskLimits(
        portfolio_id=path,
        limits=[RiskLimit(metric, limit)],
        entity_type="book",
        event_time_us=0,
    )


def day(at: int, value: float, version: int = 1) -> SeriesReturns:
    return SeriesReturns(root="firm", returns=[Return("IBM", at * DAY_US, value, version)])


def story() -> list[Any]:
    """Return the messages about a book that is put over its limit, corrected, and acknowledged."""
    return [
        message(RISK_BOOKS, book(), 0),
        message(RISK_SERIES, returns(), 0),
        message(RISK_LIMITS, limits(0.2), 0),
        *(message(RISK_SERIES, day(120 + at, -0.05), 1 + at) for at in range(7)),
        message(RISK_SERIES, day(126, 0.0, version=2), 9),
        *(message(RISK_SERIES, day(127 + at, -0.05), 10 + at) for at in range(3)),
    ]


async def test_alerts_of_a_book_are_the_same_whatever_the_rounds_and_restarts() -> None:
    journal = await bench().run(*([item] for item in story()))
    expected = journal.sent(RISK_ALERTS, RiskAlert)
    assert [alert.state for alert in expected] == ["raised", "cleared", "raised"]
    assert {alert.entity_id for alert in expected} == {"firm/desk"}
    # The loss of day 126 raises the alert.
    assert (expected[0].window_first_us, expected[0].window_last_us) == (0, 126 * DAY_US)
    assert expected[0].observations == 127
    assert len({alert.transition_id for alert in expected}) == 3

    journal = await bench().run(story())
    assert journal.sent(RISK_ALERTS, RiskAlert) == expected

    worker, found = bench(), []
    for item in story():
        journal = await worker.run([item])
        found += journal.sent(RISK_ALERTS, RiskAlert)
        worker.recover(worker.rows())
    assert found == expected


async def test_missing_measures_and_ends_of_limits_are_alerted_by_the_logs_time() -> None:
    made = bench()
    second_us = 1_000_000
    await made.run(story()[:2])
    temporary = RiskLimit(
        "var_95_amount",
        0.05,
        temporary_limit=5.0,
        valid_until_us=200 * second_us,
        approved_by="bob",
    )
    asked = replace(limits(1.0), limits=[temporary], stale_after_s=60.0)
    await made.run([message(RISK_LIMITS, asked, 0)])  # at 100.5 s
    assert made.journal.sent(RISK_ALERTS, RiskAlert) == []
    assert not made.processor.needs_time(NUMBER, 160 * second_us)
    assert made.processor.needs_time(NUMBER, 161 * second_us)
    assert not made.processor.needs_tick(NUMBER, 160 * second_us)
    assert made.processor.needs_tick(NUMBER, 161 * second_us)
    assert (await made.tick()).sent(RISK_ALERTS, RiskAlert) == [], "the time is unknown"
    [stale] = (await made.tick(161 * second_us)).sent(RISK_ALERTS, RiskAlert)
    assert (stale.state, stale.entity_type, stale.entity_id) == ("stale", "book", "firm/desk")
    made.recover(made.rows())
    assert (await made.tick(199 * second_us)).sent(RISK_ALERTS, RiskAlert) == []
    journal = await made.tick(200 * second_us)
    [raised] = journal.sent(RISK_ALERTS, RiskAlert)
    assert (raised.state, raised.threshold) == ("raised", 0.05)
    assert journal.rows[RISK_OPEN.name, stale.alert_id.encode()] is not None
    newer = message(RISK_SERIES, day(120, 0.0), 1)._replace(timestamp=201.0)
    [over] = (await made.run([newer])).sent(RISK_ALERTS, RiskAlert)
    assert (over.state, over.alert_id) == ("stale_cleared", stale.alert_id)


async def test_limits_judge_the_risk_before_them_and_acknowledgements_are_kept() -> None:
    made = bench()
    await made.run(story()[:2])
    journal = await made.run([message(RISK_LIMITS, limits(0.05), 0)])
    [raised] = journal.sent(RISK_ALERTS, RiskAlert)
    [row] = journal.sent(RISK_OPEN, OpenAlert)
    assert +Counter(made.processor.open_alerts()) == {(raised.severity, False): 1}
    assert (row.alert_id, row.entity_type, row.entity_id) == (
        *(raised.alert_id, "book"),
        "firm/desk",
    )
    ack = AlertAck(
        alert_id=raised.alert_id,
        entity_id="firm/desk",
        entity_type="book",
        by="ann",
        event_time_us=0,
    )
    unknown = replace(ack, entity_id="firm/unknown")
    portfolios = replace(ack, entity_type="portfolio")
    journal = await made.run(
        [message(RISK_ACKS, item, at) for at, item in enumerate((unknown, portfolios, ack))]
    )
    [acknowledged] = journal.sent(RISK_ALERTS, RiskAlert)
    assert (acknowledged.state, acknowledged.acknowledged_by) == ("acknowledged", "ann")
    assert +Counter(made.processor.open_alerts()) == {(raised.severity, True): 1}
    made.recover(made.rows())
    assert +Counter(made.processor.open_alerts()) == {(raised.severity, True): 1}
    journal = await made.run([message(RISK_BOOKS, book(closed=True), 5)])
    [cleared] = journal.sent(RISK_ALERTS, RiskAlert)
    assert (cleared.state, cleared.alert_id) == ("cleared", raised.alert_id)
    assert journal.rows[RISK_OPEN.name, raised.alert_id.encode()] is None


async def test_invalid_limits_of_a_book_are_a_dead_letter() -> None:
    journal = await bench().run([message(RISK_LIMITS, limits(1.0, metric="beta"), 0)])
    [letter] = journal.sent(DEAD_LETTERS, DeadLetter)
    assert "'beta' is no metric" in letter.error


async def test_a_corrected_risk_names_the_one_that_it_replaces() -> None:
    made = bench()
    await made.run(story()[:2])
    first = {risk.path: risk for risk in made.journal.sent(RISK_BOOK_RISKS, BookRisk)}
    journal = await made.run([message(RISK_SERIES, day(119, 0.5, version=2), 1)])
    for risk in journal.sent(RISK_BOOK_RISKS, BookRisk):
        assert (risk.supersedes, risk.corrections) == (first[risk.path].event_id, 1)
    journal = await made.run([message(RISK_SERIES, day(120, 0.0), 2)])
    assert {risk.supersedes for risk in journal.sent(RISK_BOOK_RISKS, BookRisk)} == {None}


def crash(value: float, version: int, *, withdrawn: bool = False) -> Scenario:
    shocks = () if withdrawn else (Shock("IBM", value),)
    return Scenario(
        name="crash",
        version=version,
        kind="hypothetical",
        shocks=shocks,
        others="zero",
        withdrawn=withdrawn,
        event_time_us=version,
    )


async def test_stress_losses_of_a_book_are_judged_alike_whatever_the_rounds_and_restarts() -> None:
    story = [
        message(RISK_BOOKS, book(), 0),
        message(RISK_SERIES, returns(), 0),
        message(RISK_SCENARIOS, crash(-0.1, 1), 0),
        message(RISK_LIMITS, limits(0.2, "stress_loss:crash"), 0),
        message(RISK_SCENARIOS, crash(-0.3, 2), 1),
        message(RISK_SERIES, day(120, 0.01), 1),
        message(RISK_SCENARIOS, crash(-0.1, 3), 2),
        message(RISK_SCENARIOS, crash(-0.4, 4), 3),
        message(RISK_SCENARIOS, crash(0.0, 5, withdrawn=True), 4),
        message(RISK_SCENARIOS, crash(-0.5, 6), 5),
        message(RISK_LIMITS, limits(0.6, "stress_loss:crash"), 1),
    ]
    journal = await bench().run(story)
    expected = journal.sent(RISK_ALERTS, RiskAlert)
    assert [(alert.state, alert.metric_value) for alert in expected] == [
        ("raised", 0.3),
        ("cleared", 0.1),
        ("raised", 0.4),
        ("cleared", 0.2),  # withdrawn, so the limit stands for the value
        ("raised", 0.5),
        ("cleared", 0.5),
    ]
    assert {alert.alert_type for alert in expected} == {"stress_exceeded"}
    # Each alert names the record that it follows from.
    assert [(alert.source_topic, alert.source_offset) for alert in expected] == [
        *((RISK_SCENARIOS.name, offset) for offset in (1, 2, 3, 4, 5)),
        (RISK_LIMITS.name, 1),
    ]
    worker, found = bench(), []
    for item in story:
        journal = await worker.run([item])
        found += journal.sent(RISK_ALERTS, RiskAlert)
        worker.recover(worker.rows())
    assert found == expected
