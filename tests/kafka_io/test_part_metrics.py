"""Every part shows its version, process and counts, and when certificates and tokens expire."""

import socket
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from infra.embedded_broker import free_port
from kafka_io.counts import Counts
from kafka_io.errors import InvalidSetting, NoToken
from kafka_io.part_metrics import (
    count_families,
    expiration_of,
    part_families,
    serve_metrics,
    token_families,
)
from kafka_io.settings import MetricsSettings
from kafka_io.tokens import Token, TokenSource
from tapewire import __version__
from tests.support.certificates import Authority

_DAY_S = 86_400.0


def values(families: Iterable[Metric]) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_worker_serves_its_metrics_with_those_of_every_part() -> None:
    settings = MetricsSettings(metrics_port=free_port())
    serve_metrics(settings, lambda: [GaugeMetricFamily("tapewire_own", "Its own", value=3.0)])
    request = urllib.request.Request(
        f"http://127.0.0.1:{settings.metrics_port}/metrics",
        headers={"Accept": "application/openmetrics-text; version=1.0.0"},
    )
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310  # as above
        found = values(text_string_to_metric_families(answer.read().decode()))
    assert found[("tapewire_own",)] == 3
    assert found["tapewire_build_info", __version__] == 1
    assert found[("process_resident_memory_bytes",)] > 1 << 20


def test_without_a_port_nothing_is_served() -> None:
    serve_metrics(MetricsSettings(), lambda: pytest.fail("nobody asks"))


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InvalidSetting, match=f"TAPEWIRE_METRICS_PORT is {port}, on which 127"):
            serve_metrics(MetricsSettings(metrics_port=port), list)


def test_an_address_without_a_port_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="TAPEWIRE_METRICS_HOST is set, and TAPEWIRE_METRICS"):
        MetricsSettings(metrics_host="0.0.0.0")  # noqa: S104  # it is refused


def test_certificates_of_an_edge_and_of_kafka_say_when_they_expire(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    client, server = authority.client("worker"), authority.server("localhost")
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SSL")
    monkeypatch.setenv("KAFKA_SSL_CA_FILE", str(authority.file))
    monkeypatch.setenv("KAFKA_SSL_CERTIFICATE_FILE", str(client.certificate))
    monkeypatch.setenv("KAFKA_SSL_KEY_FILE", str(client.key))
    name = "tapewire_certificate_expiration_timestamp_seconds"
    found = {
        labels[0]: value
        for (metric, *labels), value in values(part_families({"edge": server.certificate})).items()
        if metric == name
    }
    assert found.keys() == {"edge", "kafka_client", "kafka_ca"}
    assert all(value > time.time() + _DAY_S for value in found.values())


def test_a_certificate_that_is_being_replaced_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "half.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    found = values(part_families({"edge": tmp_path / "half.pem", "other": tmp_path / "none.pem"}))
    assert not [key for key in found if "certificate" in key[0]]


def test_the_first_certificate_of_a_chain_and_the_last_authority_count(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    pems = [Authority(folder).file.read_text() for folder in (first, second)]
    times = [expiration_of(pem) for pem in pems]
    assert expiration_of("".join(pems)) == min(times)
    assert expiration_of("".join(pems), is_chain=False) == max(times)


def test_a_token_that_cannot_be_renewed_shows_before_it_expires() -> None:
    now_s = 1_000.0
    answers: list[Token | NoToken] = [Token("one", 1_100.0), NoToken("away")]

    def fetch() -> Token:
        answer = answers.pop(0)
        if isinstance(answer, NoToken):
            raise answer
        return answer

    source = TokenSource(fetch, lambda: now_s)
    expiration = ("tapewire_kafka_token_expiration_timestamp_seconds",)
    assert expiration not in values(token_families(source))
    source.token()
    assert values(token_families(source)) == {
        expiration: 1_100.0,
        ("tapewire_kafka_token_failing",): 0,
        ("tapewire_kafka_token_failures_total",): 0,
    }
    now_s = 1_090.0
    source.token()
    found = values(token_families(source))
    assert found[("tapewire_kafka_token_failing",)] == 1
    assert found[("tapewire_kafka_token_failures_total",)] == 1


def test_commands_show_their_lag_and_their_outcomes() -> None:
    counts = Counts()
    counts.commands["commands", "done"] = 2
    counts.running["commands"] = 1
    counts.lags["commands"] = lambda: {("commands", 4): 7}
    found = values(count_families(counts))
    assert found["tapewire_commands_total", "commands", "done"] == 2
    assert found["tapewire_commands_running", "commands"] == 1
    assert found["tapewire_commands_lag_records", "commands", "4"] == 7


def test_a_topic_that_is_written_to_shows_its_refusals_from_the_start() -> None:
    counts = Counts()
    counts.published["returns"] = 1
    counts.published["limits"] = counts.refused["limits"] = 2
    found = values(count_families(counts))
    assert found["tapewire_refused_events_total", "returns"] == 0
    assert found["tapewire_refused_events_total", "limits"] == 2
