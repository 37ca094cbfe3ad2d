"""The keys that records of earlier releases get, and what their states have read."""

import pytest
from hypothesis import given, strategies as st

from kafka_io.client import partition_of
from schemas.codec import encode
from schemas.events import (
    BoardState,
    Book,
    JobState,
    PortfolioState,
    Record,
    Return,
    ReturnBatch,
    SeriesState,
    StoryState,
    WindowTally,
)
from schemas.keys import EntityKey, decode_key, encode_key, partition_key
from schemas.topics import PORTFOLIO_RETURNS, TRAINING_EVENTS
from stream_processors.errors import TopicUnfit
from stream_processors.kafka_adapter import check_keys
from stream_processors.tenant_keys import (
    WHOLE_RECORD,
    Progress,
    headers_with,
    lacks_tenant,
    moved,
    old_rows,
    parts_of,
    place_of,
    tenant_of_input,
    with_tenant,
)
from tests.support.messages import FakeMessage

COUNT = 6
ENDS = {
    "portfolio.returns": 70,
    "risk.limits": 5,
    "risk.acks": 0,
    "training.events": 9,
    "backtest.events": 8,
}


def home(key: bytes) -> int:
    return partition_of(key, COUNT)


def portfolio(name: str, partition: int) -> PortfolioState:
    return PortfolioState(
        portfolio_id=name,
        offset=40,
        index=3,
        limits_offset=2,
        acks_offset=1,
        partition=partition,
        tenant="acme",
        wanted_by={"fund": "acme", "other": "blue"},
    )


def name_of(before: int, after: int) -> str:
    """Return a portfolio that is in a partition, and in another one with the tenant."""
    names = (f"p{number}" for number in range(10_000))
    return next(
        name
        for name in names
        if (home(encode_key(name)), home(encode_key(name, "acme"))) == (before, after)
    )


STAYS, MOVES = name_of(3, 3), name_of(3, 5)


@given(st.text(), st.text(min_size=1))
def test_a_key_gets_its_tenant_once(entity_id: str, tenant: str) -> None:
    old = encode_key(entity_id)
    assert lacks_tenant(old, tenant)
    new = with_tenant(old, tenant)
    assert decode_key(new) == EntityKey(entity_id, tenant)
    assert not lacks_tenant(new, tenant)
    assert not lacks_tenant(old, None)
    assert not lacks_tenant(partition_key("t", 1), tenant)


def test_a_portfolio_that_moves_has_read_what_stands_in_its_new_partition() -> None:
    found = moved(MOVES.encode(), portfolio(MOVES, 3), "acme", home, ENDS)
    assert (found.key, found.partition) == (encode_key(MOVES, "acme"), 5)
    state = found.row
    assert isinstance(state, PortfolioState)
    assert (state.partition, state.offset, state.index) == (5, 69, WHOLE_RECORD)
    assert (state.limits_offset, state.acks_offset) == (4, -1)
    assert state.wanted_by == {"fund": "acme"}


def test_a_portfolio_that_stays_goes_on_in_its_returns() -> None:
    state = moved(STAYS.encode(), portfolio(STAYS, 3), "acme", home, ENDS).row
    assert isinstance(state, PortfolioState)
    assert (state.partition, state.offset, state.index) == (3, 40, 3)


def story(*, ended: bool) -> StoryState:
    return StoryState(
        subject="t",
        status="running",
        partition=0,
        first_offset=100,
        last_offset=120,
        ended=ended,
        tenant="acme",
    )


def test_a_run_that_goes_on_follows_its_new_partition_and_an_ended_one_keeps_its_place() -> None:
    running = moved(b"t", story(ended=False), "acme", home, ENDS)
    state = running.row
    assert isinstance(state, StoryState)
    assert state.partition == running.partition == home(encode_key("t", "acme"))
    assert (state.first_offset, state.last_offset) == (8, 8)
    assert moved(b"t", story(ended=True), "acme", home, ENDS).row == story(ended=True)


def test_the_rows_of_a_tree_are_where_its_root_is() -> None:
    series = SeriesState(root="r", series_id="s", window=b"", observations=0, tenant="acme")
    found = moved(b"series:r/s", series, "acme", home, ENDS)
    assert found == (b"acme\xffseries:r/s", home(encode_key("r", "acme")), series)
    book = Book(root="r", book_id="b", holdings=(), event_time_us=0)
    assert place_of(book, b"r/b", "acme", home) == (
        b"acme\xffr/b",
        home(encode_key("r", "acme")),
    )


def test_a_board_is_of_the_tenant_that_it_is_named_by() -> None:
    state = BoardState(board="acme", partition=0, offset=7)
    rows: dict[bytes, Record] = {
        b"acme": state,
        b"": BoardState(board="", partition=0),
        b"acme\xffacme": state,
    }
    assert list(old_rows(rows)) == [(b"acme", state, "acme")]
    board = moved(b"acme", state, "acme", home, ENDS)
    assert board.key == b"acme\xffacme"
    assert isinstance(board.row, BoardState)
    assert (board.row.partition, board.row.offset) == (board.partition, -1)


def received(record: Record, key: bytes | None, tenant: str | None, offset: int = 7) -> FakeMessage:
    headers = [("ce_id", b"1"), *([("tenant", tenant.encode())] if tenant else [])]
    return FakeMessage("t", 3, offset, key, encode(record), headers)


def test_returns_are_divided_by_partition_and_by_what_was_read() -> None:
    stranger = name_of(2, 5)
    batch = ReturnBatch(
        returns=[Return(name, at, 0.5) for at, name in enumerate((STAYS, MOVES, stranger, MOVES))],
        lap=2,
    )
    states = Progress({"risk.state": {MOVES.encode(): portfolio(MOVES, 3)}})
    moves = {5: ReturnBatch(returns=[Return(MOVES, 1, 0.5), Return(MOVES, 3, 0.5)], lap=2)}
    for offset, expected in ((40, (moves, {})), (41, ({}, moves))):
        message = received(batch, None, "acme", offset)
        assert parts_of(batch, "acme", message, home, states) == expected


def test_the_states_say_how_far_their_records_were_read() -> None:
    at = Progress({"training.tasks": {b"t": story(ended=False)}, "risk.state": {}})
    assert at.read_up_to(TRAINING_EVENTS.name, "t") == 120
    assert at.read_up_to(TRAINING_EVENTS.name, "other") == -1
    assert at.read_up_to(PORTFOLIO_RETURNS.name, "p") == -1
    assert at.read_up_to("risk.wanted", "p") == -1


def test_a_tallys_tenant_is_in_its_field_and_then_in_its_header() -> None:
    tally = WindowTally(
        window_start_us=0,
        window_us=1,
        counts={},
        source_topic="t",
        source_partition=0,
        last_offset=0,
        tenant="acme",
    )
    message = received(tally, b"acme", None)
    assert tenant_of_input(message, tally) == "acme"
    assert headers_with(message, "acme") == [("ce_id", b"1"), ("tenant", b"acme")]
    batch = ReturnBatch(returns=())
    of_tenant = received(batch, None, "acme")
    assert tenant_of_input(of_tenant, batch) == "acme"
    assert headers_with(of_tenant, "acme") == of_tenant.headers


def test_a_worker_refuses_states_of_tenants_under_old_keys() -> None:
    job = JobState(
        job_id="j",
        owner=None,
        status="running",
        progress=0.0,
        message="",
        symbol="S",
        strategy="s",
        created_us=0,
        updated_us=0,
        partition=0,
        first_offset=0,
        last_offset=0,
        tenant="acme",
    )
    check_keys({"x.backtest.jobs": {b"acme\xffj": job}})
    with pytest.raises(TopicUnfit, match=r"b'j' of 'acme'.*run `tapewire topics rekey`"):
        check_keys({"x.backtest.jobs": {b"acme\xffj": job, b"j": job}})
