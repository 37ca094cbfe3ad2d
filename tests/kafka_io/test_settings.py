import pytest
from pydantic import ValidationError

from kafka_io.settings import ProducerSettings


def test_settings_come_from_the_environment_or_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "a:1,b:2")
    monkeypatch.setenv("TAPEWIRE_TOPIC_PREFIX", "x.")
    settings = ProducerSettings()
    assert (settings.bootstrap_servers, settings.topic_prefix) == ("a:1,b:2", "x.")
    assert ProducerSettings(bootstrap_servers="c:3").bootstrap_servers == "c:3"


@pytest.mark.parametrize("wrong", [{"patience_s": 0}, {"buffer_events_max": 0}, {"linger_ms": -1}])
def test_values_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        ProducerSettings(**wrong)  # type: ignore[arg-type]  # on purpose
