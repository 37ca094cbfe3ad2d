"""An agent does what the tasks ask of it, one round at a time; its errors are theirs."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kafka_io.dead_letters import Message
from stream_processors.faust_adapter import AgentProcessor, WorkerApp
from stream_processors.messages import Admitted
from stream_processors.processor import Processor, Round
from tests.support.fake_group import RunningTotals, total_row

MESSAGE = Admitted("t", 1, 0, b"k", b"5", None, 1.0, total_row("", 0, 0))


class Recorder(RunningTotals):
    """Records its calls, and waits until the test lets it go on."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.began = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.running = 0
        self.error: Exception | None = None

    async def process(self, messages: Sequence[Message], this_round: Round) -> None:
        self.calls.append(f"process {len(messages)} of {this_round.number}")
        self.began.set()
        self.running += 1
        assert self.running == 1
        await self.may_go_on.wait()
        self.running -= 1
        if self.error is not None:
            raise self.error

    async def finish(self, this_round: Round) -> None:
        self.calls.append(f"finish {this_round.number}")

    async def tick(self, this_round: Round) -> None:
        self.calls.append(f"tick {this_round.number}")


@asynccontextmanager
async def agent_of(recorder: Recorder) -> AsyncGenerator[AgentProcessor]:
    app = WorkerApp(
        "adapter",
        loop=asyncio.get_running_loop(),
        broker="kafka://localhost:1",
        store="memory://",
        web_enabled=False,
    )
    processor = AgentProcessor(app, recorder)
    async with app:
        app.flow_control.resume()
        yield processor
    unused: Any = app.consumer  # Faust makes it, and its thread's loop, without starting it
    unused._thread.thread_loop.close()  # no other code does


async def test_each_call_returns_when_the_agent_has_done_it() -> None:
    recorder = Recorder()
    async with agent_of(recorder) as processor:
        this_round = Round(1, "")
        await processor.process([MESSAGE], this_round)
        await processor.tick(this_round)
        await processor.finish(this_round)
    assert recorder.calls == ["process 1 of 1", "tick 1", "finish 1"]
    assert (processor.name, processor.inputs, processor.states) == (
        *("totals", recorder.inputs, recorder.states),
    )


async def test_rounds_of_several_partition_numbers_do_not_overlap() -> None:
    recorder = Recorder()
    recorder.may_go_on.clear()
    async with agent_of(recorder) as processor, asyncio.TaskGroup() as tasks:
        for number in range(3):
            tasks.create_task(processor.process([MESSAGE], Round(number, "")))
        await recorder.began.wait()
        recorder.may_go_on.set()
    assert recorder.calls == [f"process 1 of {number}" for number in range(3)]


async def test_an_error_is_raised_where_the_work_was_asked_for_and_the_agent_goes_on() -> None:
    recorder = Recorder()
    async with agent_of(recorder) as processor:
        recorder.error = ZeroDivisionError("why")
        with pytest.raises(ZeroDivisionError, match="why"):
            await processor.process([MESSAGE], Round(1, ""))
        recorder.error = None
        await processor.process([MESSAGE], Round(2, ""))
    assert len(recorder.calls) == 2


async def test_work_without_a_waiter_is_not_begun() -> None:
    recorder = Recorder()
    recorder.may_go_on.clear()
    async with agent_of(recorder) as processor, asyncio.TaskGroup() as tasks:
        tasks.create_task(processor.process([MESSAGE], Round(1, "")))
        await recorder.began.wait()
        cancelled = tasks.create_task(processor.process([MESSAGE], Round(2, "")))
        await asyncio.sleep(0)
        cancelled.cancel()
        recorder.may_go_on.set()
    assert recorder.calls == ["process 1 of 1"]


async def test_every_question_to_a_processor_reaches_it() -> None:
    delegated = {name for name in vars(Processor) if not name.startswith("_")}
    assert delegated <= vars(AgentProcessor).keys()


async def test_the_processor_says_how_often_it_ticks_and_whether_time_matters() -> None:
    class Hurried(Recorder):
        def tick_s_of(self, number: int) -> float:
            return number / 10

        def needs_tick(self, number: int, now_us: int) -> bool:
            return number <= now_us

        def needs_time(self, number: int, now_us: int) -> bool:
            return number < now_us

    async with agent_of(Hurried()) as processor:
        assert processor.tick_s_of(3) == 0.3
        assert processor.needs_time(3, 4)
        assert not processor.needs_time(3, 3)
        assert processor.needs_tick(3, 3)
        assert not processor.needs_tick(3, 2)
