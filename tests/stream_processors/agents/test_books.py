"""The processor that measures trees of books, run without Kafka."""

from schemas.codec import decode
from schemas.events import (
    Book,
    BookRisk,
    DeadLetter,
    Holding,
    Return,
    SeriesReturns,
    SeriesState,
    SeriesWanted,
)
from schemas.topics import (
    DEAD_LETTERS,
    RISK_BOOK_RISKS,
    RISK_BOOK_STATE,
    RISK_BOOKS,
    RISK_SERIES,
    RISK_WANTED,
)
from stream_processors.agents.books import Books
from stream_processors.settings import ProcessorSettings
from tests.support.messages import message
from tests.support.processor_bench import ProcessorBench

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
