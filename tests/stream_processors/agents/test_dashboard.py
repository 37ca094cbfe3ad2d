"""The agents that count events for the dashboards, run without Kafka."""

from schemas.events import BoardState, DeadLetter, TrainingProgress, WindowTally
from schemas.topics import DASHBOARD_BOARDS, DASHBOARD_TALLIES, DEAD_LETTERS, TRAINING_EVENTS
from stream_processors.agents.dashboard import add_dashboard
from tests.support.fake_faust import AgentBench
from tests.support.messages import FakeMessage, message


def bench() -> AgentBench:
    made = AgentBench()
    add_dashboard(made.app, made.settings, made.writer)
    return made


def progress(offset: int, tenant: str = "") -> FakeMessage:
    event = TrainingProgress(
        task_id="A", progress=0.0, status="running", message="", metrics={}, event_time_us=0
    )
    return message(TRAINING_EVENTS, event, offset, tenant=tenant)


async def test_events_are_tallied_by_tenant_and_bad_events_are_dead_letters_too() -> None:
    journal = await bench().run(
        "tally_events",
        [
            progress(0, "acme"),
            progress(1, "acme"),
            progress(2)._replace(key=b"other"),
            message(TRAINING_EVENTS, b"nonsense", 3),
        ],
    )
    tallies = {tally.tenant: tally for tally in journal.sent(DASHBOARD_TALLIES, WindowTally)}
    assert tallies["acme"].counts == {"training_events": 2}
    assert (tallies["acme"].first_offset, tallies["acme"].last_offset) == (0, 1)
    assert tallies[None].counts == {"training_events": 1, "undecodable": 1}
    letters = journal.sent(DEAD_LETTERS, DeadLetter)
    assert [(letter.offset, letter.reason) for letter in letters] == [
        (2, "misplaced"),
        (3, "undecodable"),
    ]
    assert letters[0].error == "the key is b'other'; it must be b'A'"
    assert journal.order[-1] == "ack"


async def test_tallies_are_added_to_their_tenants_board() -> None:
    made = bench()
    counted = await made.run("tally_events", [progress(0, "acme"), progress(1)])
    tallies = counted.sent(DASHBOARD_TALLIES, WindowTally)
    messages = [message(DASHBOARD_TALLIES, tally, at) for at, tally in enumerate(tallies)]
    journal = await made.run("total_windows", messages)
    states = {state.board: state for state in journal.sent(DASHBOARD_BOARDS, BoardState)}
    assert {board: state.offset for board, state in states.items()} == {"acme": 0, "": 1}
    assert [len(state.slices) for state in states.values()] == [1, 1]
    assert journal.order[-2:] == [DASHBOARD_BOARDS.name, "ack"]
