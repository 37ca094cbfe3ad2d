"""The reference pages are what the code generates, and every setting has a meaning."""

import pytest
from pydantic_settings import BaseSettings

from docs.generate import PAGES, attribute_docs, pages
from infra.settings import InfraSettings
from kafka_io.security import SecuritySettings
from kafka_io.settings import ProducerSettings, variable_of
from sse_edge.settings import EdgeSettings
from stream_processors.settings import ProcessorSettings

GENERATED = pages()


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_page_is_committed_as_it_is_generated(name: str) -> None:
    assert (PAGES / name).read_text(encoding="utf-8") == GENERATED[name], "run `make reference`"


@pytest.mark.parametrize(
    "settings",
    [InfraSettings, ProducerSettings, ProcessorSettings, EdgeSettings, SecuritySettings],
)
def test_every_setting_has_a_documented_meaning(settings: type[BaseSettings]) -> None:
    assert set(attribute_docs(settings)) >= set(settings.model_fields)
    page = GENERATED["reference/settings.md"]
    for name in settings.model_fields:
        assert f"| `{variable_of(settings, name)}` |" in page
