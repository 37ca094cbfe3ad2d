"""Events become rows of the columns of their table."""

import pyarrow as pa
import pytest

from analytics.columns import event_schema
from analytics.rows import event_row
from analytics.table_names import is_event
from schemas.events import Record, Return, ReturnBatch
from sse_edge.streams.channels import CHANNELS

EXAMPLES = [
    example
    for channel in CHANNELS.values()
    for example in channel.examples
    if is_event(type(example))
]


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type(event).__name__)
def test_each_example_of_a_channel_is_a_row(event: Record) -> None:
    schema = event_schema(type(event))
    (row,) = pa.Table.from_pylist([event_row(event)], schema).to_pylist()
    assert list(row) == schema.names
    assert any(value is not None for value in row.values())


def test_returns_are_columns_and_a_batch_may_be_empty() -> None:
    full = event_row(ReturnBatch(returns=[Return("p", 5, 0.25, 2), Return("q", 6, -0.5)], lap=1))
    empty = event_row(ReturnBatch(returns=[]))
    assert (full["portfolio_ids"], full["values"], full["lap"]) == (("p", "q"), (0.25, -0.5), 1)
    assert (full["versions"], empty["values"]) == ((2, 1), ())
