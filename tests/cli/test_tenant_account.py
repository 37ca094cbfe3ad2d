import pytest

from cli.tenant_account import fate_of, lines_erased, lines_found, row_of
from cli.tenant_shares import Share
from schemas.topics import (
    BACKTEST_JOBS,
    DAY_MS,
    PORTFOLIO_RETURNS,
    RISK_ALERTS,
    RISK_LIMITS,
    RISK_STATE,
    Topic,
)

NEWEST_MS = 1_000 * DAY_MS
NOW_MS = NEWEST_MS + DAY_MS
MINUTES_10_MS = 600_000


def share(topic: Topic, records: int = 3) -> Share:
    return Share(f"x.{topic.name}", topic, records, size_bytes=9, oldest_ms=5, newest_ms=NEWEST_MS)


def test_events_remain_for_their_retention_and_at_most_a_segment_longer() -> None:
    fate = fate_of(share(RISK_ALERTS), {"segment.ms": "1000"}, NOW_MS)
    assert (fate.from_ms, fate.until_ms) == (
        NEWEST_MS + 90 * DAY_MS,
        NEWEST_MS + 90 * DAY_MS + 1_000,
    )
    assert (fate.is_erasable, fate.is_kept_for_ever, fate.keys_until_ms) == (False, False, None)


def test_the_settings_that_a_topic_has_in_kafka_decide() -> None:
    fate = fate_of(share(RISK_ALERTS), {"retention.ms": "-1"})
    assert fate.is_kept_for_ever
    fate = fate_of(share(PORTFOLIO_RETURNS), {"retention.ms": "10", "segment.ms": "1"})
    assert fate.until_ms == NEWEST_MS + 11


def test_rows_are_gone_when_a_closed_segment_is_compacted_and_their_keys_a_day_later() -> None:
    fate = fate_of(share(RISK_STATE), {}, NOW_MS)
    assert fate.is_erasable
    assert fate.until_ms == NOW_MS + 2 * MINUTES_10_MS
    assert fate.keys_until_ms == NOW_MS + DAY_MS + 4 * MINUTES_10_MS
    assert fate_of(share(RISK_STATE), {}).until_ms is None


def test_a_compacted_topic_that_forgets_has_the_earlier_of_both_times() -> None:
    config = {"retention.ms": "0", "segment.ms": "1000"}
    assert fate_of(share(BACKTEST_JOBS), config, NOW_MS).until_ms == NEWEST_MS + 1_000
    assert fate_of(share(BACKTEST_JOBS), {}, NOW_MS).until_ms == NOW_MS + 2 * MINUTES_10_MS


def test_without_a_bound_of_compaction_none_is_promised() -> None:
    fate = fate_of(share(RISK_STATE), {"max.compaction.lag.ms": str((1 << 63) - 1)}, NOW_MS)
    assert fate.until_ms is None
    [line] = lines_erased([(share(RISK_STATE), fate)])
    assert "without a bound: set max.compaction.lag.ms" in line


@pytest.mark.parametrize(
    ("topic", "found", "erased"),
    [
        (
            RISK_STATE,
            "kept by key; `tapewire tenant erase` erases it",
            "erased; on the disk until 1972-09-28T00:20:00Z at the latest, their keys until",
        ),
        (
            RISK_ALERTS,
            "until 1972-12-26T00:00:00Z, at the latest 1973-01-02T00:00:00Z",
            "they remain until 1972-12-26T00:00:00Z, at the latest 1973-01-02T00:00:00Z; `tapewire",
        ),
        (
            PORTFOLIO_RETURNS,
            "kept for ever; `tapewire topics retention portfolio.returns TIME` ends it",
            ": kept for ever; `tapewire topics retention portfolio.returns TIME` ends it",
        ),
        (
            RISK_LIMITS,
            "kept for ever",
            ": edges forget them now; kept for ever; `tapewire topics retention risk.limits TIME`",
        ),
    ],
)
def test_the_lines_say_what_remains_until_when_and_what_ends_it(
    topic: Topic, found: str, erased: str
) -> None:
    of_topic = share(topic)
    [line] = lines_found([(of_topic, fate_of(of_topic, {}))])
    assert line.startswith(f"x.{topic.name}")
    assert "3 records" in line
    assert found in line
    [line] = lines_erased([(of_topic, fate_of(of_topic, {}, NOW_MS))])
    assert erased in line


def test_the_lines_count_unread_records_and_tombstones() -> None:
    unread = share(RISK_ALERTS)
    unread.unread = {"x.tapewire": 2}
    assert (
        "2 of them are not read yet by x.tapewire"
        in lines_found([(unread, fate_of(unread, {}))])[1]
    )
    tombstones = share(RISK_STATE, records=0)
    tombstones.tombstones = 4
    assert (
        "4 tombstones, which hold the keys"
        in lines_found([(tombstones, fate_of(tombstones, {}))])[0]
    )


def test_a_program_gets_the_same() -> None:
    of_topic = share(RISK_STATE)
    of_topic.rows = {(0, b"k"): True}
    row = row_of(of_topic, fate_of(of_topic, {}, NOW_MS))
    assert row == {
        "topic": "x.risk.state",
        "records": 3,
        "tombstones": 0,
        "bytes": 9,
        "oldest": "1970-01-01T00:00:00.005000Z",
        "newest": "1972-09-27T00:00:00Z",
        "unread": {},
        "keys": 1,
        "erasable": True,
        "kept_for_ever": False,
        "expires_from": None,
        "expires_by": "1972-09-28T00:20:00Z",
        "keys_expire_by": "1972-09-29T00:40:00Z",
    }
