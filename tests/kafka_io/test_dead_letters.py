"""Dead letters: bounded, whatever they are about."""

from hashlib import sha256

import pytest

from kafka_io.dead_letters import dead_letter
from schemas.codec import encode
from schemas.events import DeadLetterReason
from stream_processors.processor import RECORD_BYTES_MAX, Round
from tests.support.messages import FakeMessage

KEY, VALUE = b"k" * 520_000, b"v" * 1_000_000


def test_a_dead_letter_has_the_first_parts_of_what_is_long_and_names_the_whole() -> None:
    received = FakeMessage("portfolio.returns", 3, 7, KEY, VALUE)
    letter = dead_letter(received, DeadLetterReason.INVALID, "w" * 1_000_000, index=4)
    assert (letter.topic, letter.partition, letter.offset) == ("portfolio.returns", 3, 7)
    assert (letter.index, letter.event_time_us) == (4, 100_500_000)
    assert (letter.key, letter.value) == (KEY[:4096], VALUE[: 512 * 1024])
    assert (letter.key_bytes, letter.value_bytes) == (len(KEY), len(VALUE))
    assert letter.key_sha256 == sha256(KEY).digest()
    assert letter.value_sha256 == sha256(VALUE).digest()
    assert letter.error.startswith("www")
    this_round = Round(3, "")
    this_round.send(letter)
    [record] = this_round.records
    parts = (record.key, record.value, *(value for _, value in record.headers))
    assert sum(len(part or b"") for part in parts) < RECORD_BYTES_MAX


@pytest.mark.parametrize("timestamp", [-0.001, 0.0])
def test_a_record_without_a_time_has_a_dead_letter(timestamp: float) -> None:
    letter = dead_letter(
        FakeMessage("t", 0, 0, None, None, timestamp=timestamp), DeadLetterReason.INVALID, "why"
    )
    assert (letter.event_time_us, letter.key_bytes, letter.value_bytes) == (0, None, None)
    assert encode(letter)
