"""The metrics that every part of a system has, and the port that shows a worker's.

Every part has its version, the resources of its process, what it has published, and when its
certificates and tokens expire. A worker shows them on `TAPEWIRE_METRICS_PORT`, an edge at
`/metrics`, to which this module only gives its families.

This needs `prometheus-client` and `cryptography`, which the extras of all parts have.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from wsgiref.simple_server import WSGIServer

from cryptography import x509
from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from kafka_io.counts import COUNTS, Counts, ForeignOutcome
from kafka_io.errors import InvalidSetting
from kafka_io.security import Credentials, SecuritySettings, current_credentials
from kafka_io.settings import MetricsSettings
from kafka_io.stage_times import BUCKETS_S
from kafka_io.tokens import TokenSource, token_source
from tapewire import __version__

logger = logging.getLogger(__name__)


def serve_metrics(
    settings: MetricsSettings, families: Callable[[], Iterable[Metric]]
) -> WSGIServer | None:
    """Show metrics over HTTP in the background until the process ends, if settings ask for it.

    Returns:
        The server; None without a port.

    Raises:
        InvalidSetting: the address cannot be listened on.
    """
    if settings.metrics_port is None:
        return None
    registry = CollectorRegistry()
    registry.register(_Collected(lambda: (*families(), *part_families())))
    try:
        server, _ = start_http_server(settings.metrics_port, settings.metrics_host, registry)
    except OSError as error:
        raise InvalidSetting(
            f"TAPEWIRE_METRICS_PORT is {settings.metrics_port}, on which {settings.metrics_host} "
            f"cannot be listened on: {error.strerror or error}"
        ) from error
    logger.info("metrics are at http://%s:%d/metrics", settings.metrics_host, server.server_port)
    return server


def part_families(certificates: Mapping[str, Path] | None = None) -> Iterator[Metric]:
    """Return the metrics that every part has.

    Args:
        certificates: files of certificates beside those of Kafka, by what they are for.
    """
    yield from build_families()
    yield from ProcessCollector(registry=None).collect()
    yield from count_families(COUNTS)
    yield from _expirations(certificates or {})


def build_families() -> Iterator[Metric]:
    """Return the metric of this part's version."""
    yield InfoMetricFamily("tapewire_build", "Version of this part", {"version": __version__})


def count_families(counts: Counts) -> Iterator[Metric]:
    """Return the metrics of what a process publishes, and of the commands that it does."""
    # A topic that is written to shows zero refusals: a counter that begins at 1 has no increase.
    refused = dict.fromkeys(dict(counts.published), 0) | dict(counts.refused)
    yield labelled(
        CounterMetricFamily(
            "tapewire_published_events",
            "Events that Kafka has acknowledged to a publisher, by topic",
            labels=["topic"],
        ),
        (((topic,), count) for topic, count in dict(counts.published).items()),
    )
    yield labelled(
        CounterMetricFamily(
            "tapewire_refused_events",
            "Events that a publisher has given up, since Kafka will never take them, by topic",
            labels=["topic"],
        ),
        (((topic,), count) for topic, count in refused.items()),
    )
    yield labelled(
        CounterMetricFamily(
            "tapewire_commands",
            "Attempts at commands that have ended, by topic and outcome: done, set_aside (a dead "
            "letter is written about it) or stopped (another attempt follows)",
            labels=["topic", "outcome"],
        ),
        dict(counts.commands).items(),
    )
    yield labelled(
        CounterMetricFamily(
            "tapewire_foreign_values",
            "Values that were read in Confluent's framing, by outcome: read, or refused (their "
            "schema could not be resolved, or the body does not fit it)",
            labels=["outcome"],
        ),
        (((outcome,), counts.foreign_values[outcome]) for outcome in ForeignOutcome),
    )
    yield CounterMetricFamily(
        "tapewire_schema_registry_failures",
        "Requests for schemas that the schema registry has left without an answer",
        value=counts.registry_failures,
    )
    stages = HistogramMetricFamily(
        "tapewire_stage_seconds",
        "Time that samples of events took for a stage of their way",
        labels=["stage"],
    )
    for stage, times in counts.stages.times():
        buckets = with_exemplars(BUCKETS_S, times.counts, {})
        stages.add_metric([stage], buckets, sum_value=times.sum_s)
    yield stages
    yield labelled(
        GaugeMetricFamily(
            "tapewire_commands_running", "Commands in progress, by topic", labels=["topic"]
        ),
        (((topic,), number) for topic, number in dict(counts.running).items()),
    )
    yield labelled(
        GaugeMetricFamily(
            "tapewire_commands_lag_records",
            "Offsets between the oldest command of a partition that is not done and its end",
            labels=["topic", "partition"],
        ),
        (
            ((topic, str(partition)), records)
            for lags in list(counts.lags.values())
            for (topic, partition), records in lags().items()
        ),
    )


def dead_letter_family(counts: Mapping[tuple[str, str], int]) -> Metric:
    """Return the metric of dead letters, by topic and reason."""
    return labelled(
        CounterMetricFamily(
            "tapewire_dead_letters",
            "Dead letters written about records, by their topic and the reason",
            labels=["topic", "reason"],
        ),
        dict(counts).items(),
    )


def labelled(
    family: CounterMetricFamily | GaugeMetricFamily, values: Iterable[tuple[tuple[str, ...], float]]
) -> Metric:
    """Return a family with a sample for each combination of labels."""
    for labels, value in sorted(values):
        family.add_metric(labels, value)
    return family


def with_exemplars(
    bounds: Iterable[float], counts: Iterable[int], exemplars: Mapping[int, Exemplar]
) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
    """Return the buckets of a histogram as Prometheus has them.

    Args:
        bounds: the upper bounds of the buckets, without the infinite one.
        counts: the number of values in each bucket, and above all bounds.
        exemplars: an example of a value in some of the buckets, by the bucket's number.
    """
    buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
    total = 0
    for number, (bound, count) in enumerate(zip((*map(str, bounds), "+Inf"), counts, strict=True)):
        total += count
        exemplar = exemplars.get(number)
        sample = bound, float(total)
        buckets.append(sample if exemplar is None else (*sample, exemplar))
    return buckets


def expiration_of(pem: str, *, is_chain: bool = True) -> float:
    """Return when certificates expire, in seconds since 1970.

    Args:
        pem: certificates in PEM.
        is_chain: whether all are needed, so that the first to expire counts. Of authorities the
            last one counts: an old one stays in the file until it is replaced everywhere.

    Raises:
        ValueError: there is no certificate in the text.
    """
    found = x509.load_pem_x509_certificates(pem.encode())
    times = [certificate.not_valid_after_utc.timestamp() for certificate in found]
    return min(times) if is_chain else max(times)


def _expirations(certificates: Mapping[str, Path]) -> Iterator[Metric]:
    """Return when certificates and tokens expire, for those that there are."""
    security = SecuritySettings()
    yield expiration_family(_times(certificates, current_credentials(security)))
    if security.sasl_mechanism in ("OAUTHBEARER", "AWS_MSK_IAM"):
        yield from token_families(token_source(security))


def expiration_family(times: Iterable[tuple[str, float]]) -> Metric:
    """Return the metric of certificates, from what each is for and when it expires."""
    return labelled(
        GaugeMetricFamily(
            "tapewire_certificate_expiration_timestamp_seconds",
            "When a certificate expires, in seconds since 1970: kafka_client, kafka_ca (the last "
            "of the authorities) or edge",
            labels=["certificate"],
        ),
        (((name,), expires_s) for name, expires_s in times),
    )


def _times(
    certificates: Mapping[str, Path], credentials: Credentials
) -> Iterator[tuple[str, float]]:
    texts = {"kafka_client": credentials.certificate, "kafka_ca": credentials.ca}
    for name, path in certificates.items():
        try:
            texts[name] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):  # it is being replaced
            texts[name] = None
    for name, text in texts.items():
        if text is None:
            continue
        try:
            yield name, expiration_of(text, is_chain=name != "kafka_ca")
        except ValueError:
            logger.debug("the certificate %s cannot be read", name)


def token_families(source: TokenSource) -> Iterator[Metric]:
    """Return the metrics of the token that this process authenticates with at Kafka."""
    if source.expires_s is not None:
        yield GaugeMetricFamily(
            "tapewire_kafka_token_expiration_timestamp_seconds",
            "When the present token for Kafka expires, in seconds since 1970",
            value=source.expires_s,
        )
    yield GaugeMetricFamily(
        "tapewire_kafka_token_failing",
        "Whether the last attempt to obtain a token for Kafka has failed",
        value=source.is_failing,
    )
    yield CounterMetricFamily(
        "tapewire_kafka_token_failures",
        "Attempts to obtain a token for Kafka that have failed",
        value=source.failures,
    )


class _Collected(Collector):
    """Families that are collected anew at each scrape."""

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families()
