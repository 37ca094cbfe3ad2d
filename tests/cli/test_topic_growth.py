import pytest

from cli import topic_growth
from cli.errors import GrowthFailed
from infra.embedded_broker import free_port
from infra.errors import KafkaUnreachable
from kafka_io.errors import Fenced
from stream_processors.errors import GrowthRefused
from stream_processors.settings import ProcessorSettings


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (GrowthRefused("8 is not a multiple of 6"), "^8 is not a multiple of 6$"),
        (Fenced("another worker"), "another worker.*run `tapewire topics grow 12` again"),
        (TimeoutError(), "TimeoutError.*run `tapewire topics grow 12` again"),
    ],
)
async def test_a_growth_that_fails_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, error: Exception, text: str
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(topic_growth, "wait_for_kafka", lambda *_, **__: None)
    monkeypatch.setattr(topic_growth, "grow_topics", fail)
    with pytest.raises(GrowthFailed, match=text):
        await topic_growth.grow(ProcessorSettings(), 12, 1.0, lambda _: None)


async def test_without_kafka_its_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_growth, "_KAFKA_S", 0.1)
    settings = ProcessorSettings(bootstrap_servers=f"localhost:{free_port()}")
    with pytest.raises(KafkaUnreachable, match="no Kafka has answered at localhost"):
        await topic_growth.grow(settings, 12, 1.0, lambda _: None)
