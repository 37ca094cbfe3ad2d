import pytest

from cli import topic_keys
from cli.errors import RekeyFailed
from infra.embedded_broker import free_port
from infra.errors import KafkaUnreachable
from kafka_io.errors import Fenced
from stream_processors.errors import RekeyRefused
from stream_processors.settings import ProcessorSettings


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RekeyRefused("processors are running"), "^processors are running$"),
        (Fenced("another worker"), "another worker.*run `tapewire topics rekey` again"),
    ],
)
async def test_keys_that_could_not_be_changed_say_what_to_do(
    monkeypatch: pytest.MonkeyPatch, error: Exception, text: str
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(topic_keys, "wait_for_kafka", lambda *_, **__: None)
    monkeypatch.setattr(topic_keys, "rekey_topics", fail)
    with pytest.raises(RekeyFailed, match=text):
        await topic_keys.rekey(ProcessorSettings(), lambda _: None)


async def test_without_kafka_no_key_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_keys, "_KAFKA_S", 0.1)
    settings = ProcessorSettings(bootstrap_servers=f"localhost:{free_port()}")
    with pytest.raises(KafkaUnreachable, match="no Kafka has answered at localhost"):
        await topic_keys.rekey(settings, lambda _: None)
