"""The documents say what the code does."""

from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from infra.settings import InfraSettings
from kafka_io.settings import ProducerSettings
from sse_edge.settings import EdgeSettings
from stream_processors.settings import ProcessorSettings

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "settings", [InfraSettings, ProducerSettings, ProcessorSettings, EdgeSettings]
)
def test_every_setting_is_in_the_readme(settings: type[BaseSettings]) -> None:
    for name in settings.model_fields:
        if name == "bootstrap_servers":
            assert "`KAFKA_BOOTSTRAP_SERVERS`" in README
        else:
            assert f"| `TAPEWIRE_{name.upper()}` |" in README
