"""The processors that count events for the dashboards, run without Kafka."""

from schemas.events import BoardState, DeadLetter, TrainingProgress, WindowTally
from schemas.topics import DASHBOARD_BOARDS, DASHBOARD_TALLIES, DEAD_LETTERS, TRAINING_EVENTS
from stream_processors.agents.dashboard import EventTallies, WindowTotals
from stream_processors.settings import ProcessorSettings
from tests.support.messages import FakeMessage, message
from tests.support.processor_bench import NUMBER, ProcessorBench

SETTINGS = ProcessorSettings()


def progress(offset: int, tenant: str = "") -> FakeMessage:
    event = TrainingProgress(
        task_id="A", progress=0.0, status="running", message="", metrics={}, event_time_us=0
    )
    return message(TRAINING_EVENTS, event, offset, tenant=tenant)


async def test_events_are_tallied_by_tenant_and_bad_events_are_dead_letters_too() -> None:
    journal = await ProcessorBench(EventTallies(SETTINGS)).run(
        [
            progress(0, "acme"),
            progress(1, "acme"),
            progress(2),
            message(TRAINING_EVENTS, b"nonsense", 3),
        ],
    )
    tallies = {tally.tenant: tally for tally in journal.sent(DASHBOARD_TALLIES, WindowTally)}
    assert tallies["acme"].counts == {"training_events": 2}
    assert (tallies["acme"].first_offset, tallies["acme"].last_offset) == (0, 1)
    assert tallies[None].counts == {"training_events": 1, "undecodable": 1}
    letters = journal.sent(DEAD_LETTERS, DeadLetter)
    assert [(letter.offset, letter.reason) for letter in letters] == [(3, "undecodable")]


async def test_tallies_are_added_to_their_tenants_board() -> None:
    counted = await ProcessorBench(EventTallies(SETTINGS)).run([progress(0, "acme"), progress(1)])
    tallies = counted.sent(DASHBOARD_TALLIES, WindowTally)
    messages = [message(DASHBOARD_TALLIES, tally, at) for at, tally in enumerate(tallies)]
    journal = await ProcessorBench(WindowTotals(SETTINGS)).run(messages)
    states = {state.board: state for state in journal.sent(DASHBOARD_BOARDS, BoardState)}
    assert {board: state.offset for board, state in states.items()} == {"acme": 0, "": 1}
    assert [len(state.slices) for state in states.values()] == [1, 1]
    assert journal.order[-1] == DASHBOARD_BOARDS.name


async def test_a_partition_ticks_often_only_while_a_window_has_to_be_published() -> None:
    bench = ProcessorBench(WindowTotals(SETTINGS))
    totals = bench.processor
    assert totals.tick_s_of(NUMBER) == 1
    assert not totals.needs_tick(NUMBER, 0), "there is no board"
    counted = await ProcessorBench(EventTallies(SETTINGS)).run([progress(0)])
    [tally] = counted.sent(DASHBOARD_TALLIES, WindowTally)
    await bench.run([message(DASHBOARD_TALLIES, tally, 0)])
    assert totals.tick_s_of(NUMBER) == 0.25
    assert totals.needs_tick(NUMBER, 0)
