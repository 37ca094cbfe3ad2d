"""The bulkhead: which message is at fault, and which errors are not a message's."""

import pytest

from kafka_io.errors import Unread
from schemas.topics import TopicPartition
from stream_processors.bulkhead import Bulkhead, ProcessorFailed, failing_with
from stream_processors.errors import TopicGrown
from tests.support.messages import FakeMessage

WHERE = TopicPartition("t", 0)
MESSAGES = [FakeMessage("t", 0, offset, None, None) for offset in range(3)]


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(), TimeoutError(), Unread("away"), TopicGrown("grown")]
)
def test_an_error_that_any_message_would_meet_is_of_no_message(error: Exception) -> None:
    with pytest.raises(type(error)), failing_with(MESSAGES):
        raise error


def test_an_error_of_content_names_the_messages_of_its_round() -> None:
    with pytest.raises(ProcessorFailed) as failed, failing_with(MESSAGES):
        raise KeyError("x")
    assert failed.value.messages == tuple(MESSAGES)


def test_a_round_is_divided_before_a_message_is_set_aside() -> None:
    bulkhead = Bulkhead()
    for offset in (2, 1):  # also a round of one message is tried once more
        bulkhead = Bulkhead()
        bulkhead.isolate(ProcessorFailed(KeyError("x"), MESSAGES[:offset]), {WHERE: offset})
        assert bulkhead.error_of(MESSAGES[0]) is None
        assert bulkhead.is_careful({WHERE: 0})
        assert not bulkhead.is_careful({WHERE: offset})
    bulkhead.isolate(ProcessorFailed(KeyError("x"), MESSAGES[:1]), {WHERE: 1})
    assert bulkhead.error_of(MESSAGES[0]) == "KeyError: 'x'"
    bulkhead.forget_before({WHERE: 0})
    assert bulkhead.error_of(MESSAGES[0]) is not None
    bulkhead.forget_before({WHERE: 1})
    assert bulkhead.error_of(MESSAGES[0]) is None


def test_a_failure_without_a_message_or_at_one_that_is_set_aside_is_raised() -> None:
    bulkhead = Bulkhead()
    with pytest.raises(KeyError, match="x"):
        bulkhead.isolate(ProcessorFailed(KeyError("x"), []), {WHERE: 0})
    for _ in range(2):
        bulkhead.isolate(ProcessorFailed(KeyError("x"), MESSAGES[:1]), {WHERE: 1})
    with pytest.raises(KeyError, match="y"):
        bulkhead.isolate(ProcessorFailed(KeyError("y"), MESSAGES[:1]), {WHERE: 1})
