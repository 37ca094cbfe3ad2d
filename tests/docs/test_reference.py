"""The reference pages are what the code generates, and every setting has a meaning."""

import pytest
from pydantic_settings import BaseSettings

from docs.generate import PAGES, attribute_docs, metric_parts, pages
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


def test_labels_of_metrics_are_bounded() -> None:
    """No label names a tenant, a user, a portfolio or an id: Prometheus keeps each value."""
    labels = {
        label
        for _, _, families in metric_parts()
        for family in families
        for sample in family.samples
        for label in sample.labels
    }
    of_log = {"topic", "partition"}
    of_vocabularies = {"reason", "severity", "acknowledged", "outcome", "start", "status"}
    of_system = {"stream", "dialect", "part", "certificate", "version", "stage", "table"}
    assert labels == of_log | of_vocabularies | of_system | {"le"}
