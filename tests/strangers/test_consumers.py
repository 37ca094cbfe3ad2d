"""Whatever strangers write: every consumer renders it, applies it, or refuses it by name.

`make fuzz` draws many more examples than `make test`.
"""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from schemas.errors import Refused
from schemas.events import Record
from schemas.gate import admit
from schemas.topics import RISK_REBUILDS, Topic, key_of
from sse_edge.errors import Unframable
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.render import render_value
from stream_processors.processor import Processor
from stream_processors.risk.estimates import METHODS
from stream_processors.settings import ProcessorSettings
from stream_processors.tasks import processors_of
from tests.support.messages import FakeMessage
from tests.support.processor_bench import NUMBER, ProcessorBench
from tests.support.strangers import EXAMPLES, by_schema, within_bounds

pytestmark = pytest.mark.strangers

SETTINGS = ProcessorSettings(risk_window=30, risk_observations_min=2, risk_draws=100)
EVERY_METHOD = SETTINGS.model_copy(
    update={"risk_methods": METHODS, "risk_horizons": (1, 3), "risk_slower_every": 1}
)
PROCESSORS = {processor.name: processor for processor in processors_of(SETTINGS)} | {
    f"{processor.name}-by-every-method": processor
    for processor in processors_of(EVERY_METHOD)
    if processor.name == "measure_returns"
}
LOGGED_MS = 1_700_000_000_000 + 3_600_000

any_draws = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    deadline=None,
)


def values_of(topic: Topic) -> st.SearchStrategy[bytes]:
    return st.one_of([make(kind) for kind in topic.records for make in (by_schema, within_bounds)])


@pytest.mark.parametrize("name", list(CHANNELS))
@any_draws
@given(data=st.data())
def test_each_channel_renders_a_record_or_skips_it_with_its_reason(
    name: str, data: st.DataObject
) -> None:
    channel = CHANNELS[name]
    try:
        frame = render_value(channel, data.draw(values_of(channel.topic)), LOGGED_MS)
    except Unframable as error:
        assert error.reason != "failed", error  # noqa: PT017  # either outcome is right
    else:
        assert frame is None or b"\n\n" not in frame.body


def as_message(topic: Topic, value: bytes, offset: int) -> FakeMessage | None:
    """Return a message with the key of its record; None if the gate refuses the record."""
    try:
        record = admit(value, *topic.records, logged_us=LOGGED_MS * 1000)
    except Refused:
        return None
    key, seconds = key_of(record), LOGGED_MS / 1000 + offset
    return FakeMessage(topic.name, NUMBER, offset, key, value, timestamp=seconds)


@pytest.mark.parametrize("name", list(PROCESSORS))
@any_draws
@given(data=st.data())
async def test_each_processor_applies_what_passes_the_gate(name: str, data: st.DataObject) -> None:
    bench = ProcessorBench(PROCESSORS[name])
    # Rebuilds are left out: a processor answers one by reading topics of Kafka.
    inputs = st.sampled_from([at for at in PROCESSORS[name].inputs if at is not RISK_REBUILDS])
    for offset in range(data.draw(st.integers(1, 4))):
        topic = data.draw(inputs)
        message = as_message(topic, data.draw(values_of(topic)), offset)
        await bench.run([] if message is None else [message])
        await bench.tick()
        if data.draw(st.booleans()):
            bench.recover(bench.rows(), data.draw(st.sampled_from([0, offset, 1 << 40])))


@pytest.mark.parametrize("name", [name for name, known in PROCESSORS.items() if known.states])
@any_draws
@given(data=st.data())
async def test_each_processor_restores_rows_or_passes_over_them(
    name: str, data: st.DataObject
) -> None:
    processor: Processor = PROCESSORS[name]
    rows: dict[str, Mapping[bytes, Record]] = {
        topic.name: {
            key_of(row) or b"k": row
            for row in data.draw(st.lists(rows_of(topic), max_size=2))
            if row is not None
        }
        for topic in processor.states
    }
    bench = ProcessorBench(processor, rows)
    topic = data.draw(st.sampled_from([at for at in processor.inputs if at is not RISK_REBUILDS]))
    message = as_message(topic, data.draw(values_of(topic)), 0)
    await bench.run([] if message is None else [message])
    await bench.tick()


def rows_of(topic: Topic) -> st.SearchStrategy[Any]:
    return st.one_of([within_bounds(kind) for kind in topic.rows]).map(admit)
