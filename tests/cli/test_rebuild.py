from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli import rebuild
from cli.errors import RebuildFailed
from cli.rebuild import Difference, Rebuilt, Terminal, adopted_text, in_words, lines_of
from kafka_io.settings import ProducerSettings
from schemas.events import BookRisk, PortfolioState, Record, RiskMeasure, WatchState
from schemas.keys import encode_key
from schemas.topics import (
    RISK_ALERTS,
    RISK_BOOK_RISKS,
    RISK_BOOK_STATE,
    RISK_MEASURES,
    RISK_STATE,
    Topic,
)
from stream_processors.risk.scope import Scope
from tests.support.alerts import raised_alert

SETTINGS = ProducerSettings()
OPEN = WatchState(
    rule_id="var_95", level=2, run=[], run_up=True, alert_id="a", transitions=1, judged_us=5
)
MEASURE = RiskMeasure(
    portfolio_id="p",
    as_of_us=1,
    method="historical",
    status="ok",
    observations=100,
    event_id="m",
    source_topic="portfolio.returns",
    source_partition=0,
    source_offset=3,
    var_95=0.02,
    threshold=0.05,
)
Log = Mapping[Topic, Sequence[tuple[bytes, Record]]]


def state_of(*watches: WatchState) -> PortfolioState:
    return PortfolioState(portfolio_id="p", offset=1, index=0, watches=watches)


async def compared(
    before: Log,
    after: Log,
    monkeypatch: pytest.MonkeyPatch,
    scope: Scope | None = None,
    *,
    are_copies: bool = False,
    with_books: bool = False,
) -> Difference:
    """Compare the present topics with those of a rebuild."""

    def log_of(topic: Topic, settings: ProducerSettings) -> Sequence[tuple[bytes, Record]]:
        return (after if settings.topic_prefix else before).get(topic, ())

    async def read_table(topic: Topic, settings: ProducerSettings, _: Any) -> Any:
        return dict(log_of(topic, settings))

    async def read_keyed(topic: Topic, settings: ProducerSettings) -> Any:
        return list(log_of(topic, settings))

    monkeypatch.setattr(rebuild, "read_table", read_table)
    monkeypatch.setattr(rebuild, "read_keyed", read_keyed)
    return await rebuild.compare(
        SETTINGS, "v2", scope or Scope(), are_copies=are_copies, with_books=with_books
    )


@pytest.mark.parametrize(
    ("rebuilt", "expected"),
    [
        (OPEN, {"equal": 1}),
        (OPEN._replace(level=3), {"different": 1}),
        (OPEN._replace(acknowledged=True), {"different": 1}),
        (OPEN._replace(transitions=2), {"different": 1}),
        (OPEN._replace(alert_id="b"), {"only before": 1, "only now": 1}),
        (OPEN._replace(alert_id=None), {"only before": 1}),
    ],
)
async def test_open_alerts_are_compared_by_id_level_acknowledgement_and_transitions(
    rebuilt: WatchState, expected: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = OPEN._replace(rule_id="stale", alert_id="s")  # that one depends on the time
    difference = await compared(
        {RISK_STATE: [(b"p", state_of(OPEN, stale))]},
        {RISK_STATE: [(b"p", state_of(rebuilt))]},
        monkeypatch,
    )
    assert difference.open_alerts == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "equal"),
        ({"threshold": 0.03, "utilisation": 0.5, "source_offset": 7}, "equal"),
        ({"limits_version": "2026-01-01T00:00:00Z"}, "equal"),
        ({"var_95": 0.03}, "different"),
        ({"as_of_us": 2, "var_95": 0.03}, "of other instants"),
    ],
)
async def test_measures_are_compared_without_their_limit_and_place(
    changes: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    anew = replace(MEASURE, **changes)
    difference = await compared(
        {RISK_MEASURES: [(b"p", MEASURE)]}, {RISK_MEASURES: [(b"p", anew)]}, monkeypatch
    )
    assert difference.measures == {expected: 1}


async def test_equal_transitions_of_two_tenants_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    of_acme = encode_key("p", "acme")
    before = {
        RISK_ALERTS: [
            (b"p", raised_alert("t")),
            (of_acme, raised_alert("t")),
            (b"p", raised_alert("u")),
        ]
    }
    after = {RISK_ALERTS: [(b"p", raised_alert("t")), (b"p", raised_alert("t"))]}
    difference = await compared(before, after, monkeypatch)
    assert difference.alerts == {"in both": 1, "only before": 2, "only now": 0}
    of_tenant = await compared(before, after, monkeypatch, Scope("acme"))
    assert of_tenant.alerts == {"in both": 0, "only before": 1, "only now": 0}
    of_other = await compared(before, after, monkeypatch, Scope(None, "q"))
    assert of_other.alerts == {"in both": 0, "only before": 0, "only now": 0}


def risk_of(book_id: str, as_of_us: int, event_id: str) -> BookRisk:
    return BookRisk(
        root="firm",
        book_id=book_id,
        as_of_us=as_of_us,
        status="ok",
        observations=100,
        series=1,
        missing=(),
        event_id=event_id,
    )


async def test_books_and_their_alerts_are_compared_where_they_were_rebuilt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of_book = replace(raised_alert("t"), entity_type="book", entity_id="firm/desk")
    limits = replace(state_of(OPEN), portfolio_id="firm/desk", tenant="acme")
    before: Log = {
        RISK_BOOK_RISKS: [
            (name, risk_of(name.decode(), 1, "r")) for name in (b"a", b"b", b"c", b"d")
        ],
        RISK_BOOK_STATE: [(b"limits", limits)],
        RISK_ALERTS: [(b"firm/desk", of_book)],
    }
    after: Log = {
        RISK_BOOK_RISKS: [
            (b"a", risk_of("a", 1, "r")),
            (b"b", risk_of("b", 1, "s")),
            (b"c", risk_of("c", 2, "s")),
        ],
    }
    difference = await compared(before, after, monkeypatch, with_books=True)
    assert difference.books == {
        "equal": 1,
        "different": 1,
        "of other instants": 1,
        "only before": 1,
    }
    assert difference.open_alerts == {"only before": 1}
    assert difference.alerts["only before"] == 1
    assert difference.changed_books == 2
    assert "books different                    1" in lines_of(difference)
    assert "and of 4 books, of 2 books." in in_words(difference, "v2")
    of_others = await compared(before, after, monkeypatch, Scope("other"), with_books=True)
    assert of_others.open_alerts == {}
    portfolios = await compared(before, after, monkeypatch)
    assert portfolios.is_none


async def test_alerts_in_copies_of_topics_are_compared_without_their_ids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    acknowledged = replace(raised_alert("k"), state="acknowledged")
    before: dict[Topic, Sequence[tuple[bytes, Record]]] = {
        RISK_ALERTS: [(b"p", raised_alert("t")), (b"p", acknowledged)],
        RISK_STATE: [(b"p", state_of(OPEN._replace(acknowledged=True)))],
    }
    after: dict[Topic, Sequence[tuple[bytes, Record]]] = {
        RISK_ALERTS: [(b"p", raised_alert("u"))],
        RISK_STATE: [(b"p", state_of(OPEN._replace(alert_id="b")))],
    }
    difference = await compared(before, after, monkeypatch, are_copies=True)
    assert difference.alerts == {"in both": 1, "only before": 0, "only now": 0}
    assert difference.open_alerts == {"equal": 1}
    after[RISK_STATE] = [(b"p", state_of(OPEN._replace(alert_id="b", level=3)))]
    difference = await compared(before, after, monkeypatch, are_copies=True)
    assert difference.open_alerts == {"different": 1}


def test_a_difference_is_a_table_of_counts() -> None:
    difference = Difference(
        {"equal": 3, "different": 1}, {"in both": 5, "only now": 0}, {"different": 2}
    )
    assert [line.split() for line in lines_of(difference)] == [
        ["measures", "different", "1"],
        ["measures", "equal", "3"],
        ["open", "alerts", "different", "2"],
        ["alert", "steps", "in", "both", "5"],
        ["alert", "steps", "only", "now", "0"],
    ]


def test_the_end_says_in_words_what_has_changed() -> None:
    nothing = Difference({"equal": 3, "of other instants": 1}, {"only before": 0, "only now": 0})
    assert in_words(nothing, "v2") == (
        "the running workers continue from v2, which equals what they had; nothing changed for "
        "clients"
    )
    changed = Difference(
        {"equal": 3, "different": 1}, {"only before": 2, "only now": 1}, {"different": 1}
    )
    text = in_words(changed, "v2")
    assert "of 4 portfolios, clients get another measure of 1 portfolio." in text
    assert "has 1 alert step more, and lacks 2 alert steps of the old one" in text
    assert "Clients get an event about 1 open alert" in text
    unlike = Difference({"equal": 3}, {"only before": 0, "only now": 0}, {"only now": 1})
    assert not unlike.is_none


def test_a_result_is_a_document_of_counts() -> None:
    difference = Difference({"equal": 3}, {"in both": 5}, {"different": 2}, {"equal": 4})
    result = Rebuilt("v2", difference, is_switched=True, measures="v2.m", alerts="v2.a")
    assert result.as_json() == {
        "version": "v2",
        "switched": True,
        "measures": {"equal": 3},
        "books": {"equal": 4},
        "open_alerts": {"different": 2},
        "alert_steps": {"in both": 5},
        "topics": {"measures": "v2.m", "alerts": "v2.a"},
    }


def test_a_rebuild_in_another_cluster_names_whether_it_equals_the_states() -> None:
    nothing = Difference({"equal": 3}, {"only before": 0, "only now": 0})
    assert adopted_text(nothing, "v2").endswith("start the processors. v2 equals the states")
    text = adopted_text(Difference({"different": 1}, {"only before": 0, "only now": 0}), "v2")
    assert "v2 differs from the states, which is well only where" in text


@pytest.mark.parametrize("copied", [["positions"], []])
async def test_copies_of_topics_that_had_grown_are_adopted_without_a_rebuild(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, copied: list[str]
) -> None:
    adopted: list[Any] = []

    def answer(value: object) -> Any:
        async def answered(*_: object) -> object:
            return value

        return answered

    async def adopt(positions: object, _settings: object) -> None:
        adopted.append(positions)

    monkeypatch.setattr(rebuild, "wait_for_kafka", lambda *_, **__: None)
    monkeypatch.setattr(rebuild, "_check_growths", answer(12))
    monkeypatch.setattr(rebuild, "find_copied", answer(copied))
    monkeypatch.setattr(rebuild, "have_grown_elsewhere", answer(value=True))
    monkeypatch.setattr(rebuild, "adopt", adopt)
    printed: list[str] = []
    settings = ProducerSettings(bootstrap_servers="nowhere:1")
    running = rebuild.rebuild(settings, "v2", tmp_path, Terminal(printed.append), switch=True)
    if copied:
        await running
        assert adopted == [copied]
        assert printed[-1].startswith("adopted: ")
    else:  # they were adopted before
        with pytest.raises(RebuildFailed, match="had grown before they were copied"):
            await running
        assert adopted == []
