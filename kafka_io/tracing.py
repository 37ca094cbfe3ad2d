"""Traces by OpenTelemetry: spans of what is written, processed and opened, and how they follow.

A writer's span goes into its record as the header `traceparent`, and a reader's span links to it.
A process of this system exports its spans where `OTEL_EXPORTER_OTLP_ENDPOINT` says; the SDK's other
environment variables hold as well. Without an endpoint nothing of the SDK is imported, and no span
is made. A program that uses the reporter API, and has an OpenTelemetry of its own, gets its spans
there.

The names and attributes are those of OpenTelemetry's semantic conventions for messaging.
"""

import os
import re
import threading
from collections.abc import Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from opentelemetry import context, trace
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    NoOpTracerProvider,
    ProxyTracerProvider,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    TracerProvider,
)

from kafka_io.errors import InvalidSetting

TRACEPARENT = "traceparent"
"""The header of a record, and of a request, with the W3C trace context of its writer."""
TRACEPARENT_CHARS = 55

_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
_PROTOCOL = "http/protobuf"
_LAST_EXPORT_S = 2.0
"""How long a process that ends may take to export its last spans."""

_tracers: dict[int, tuple[TracerProvider, Tracer]] = {}
"""The tracer of the present provider, by the provider's identity."""

Headers = Iterable[tuple[str, bytes | None]]


def configure_tracing(part: str) -> None:
    """Export the spans of this process, if the environment names an endpoint.

    Args:
        part: what the process is, such as `edge`; its service is `tapewire-edge`, unless
            `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` names another one.

    Raises:
        InvalidSetting: a variable asks for what is not there; the message says what.
    """
    if is_wanted(os.environ) and current_tracer() is None:
        trace.set_tracer_provider(_exporting_provider(part))


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Return whether an environment asks for the export of spans.

    Raises:
        InvalidSetting: it asks for an exporter or a protocol that this system does not have.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if not any(environ.get(name) for name in _ENDPOINTS):
        return False
    exporter = environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    if exporter == "none":
        return False
    if exporter != "otlp":
        raise InvalidSetting(f"OTEL_TRACES_EXPORTER is {exporter[:60]}; it must be otlp or none")
    for name in _PROTOCOLS:
        if (protocol := environ.get(name) or _PROTOCOL) != _PROTOCOL:
            raise InvalidSetting(f"{name} is {protocol[:60]}; it must be {_PROTOCOL}")
    return True


def _exporting_provider(part: str) -> TracerProvider:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415  # lazy
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import (  # noqa: PLC0415  # lazy
            OTELResourceDetector,
            Resource,
        )
        from opentelemetry.sdk.trace import (  # noqa: PLC0415  # lazy
            TracerProvider as ExportingProvider,
        )
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415  # lazy
    except ImportError as error:
        raise InvalidSetting(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, and traces need more packages; "
            "install `tapewire[tracing]`"
        ) from error
    own = {
        "service.name": f"tapewire-{part}",
        "service.namespace": "tapewire",
        "service.version": _version(),
    }
    given = OTELResourceDetector().detect().attributes
    resource = Resource.create({name: own[name] for name in own.keys() - given.keys()})
    provider = ExportingProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def stop_tracing() -> None:
    """Export the last spans of this process, for two seconds at most."""
    provider: Any = trace.get_tracer_provider()
    if isinstance(provider, ProxyTracerProvider | NoOpTracerProvider):
        return
    # A collector that does not answer must keep no process from ending.
    last = threading.Thread(target=provider.shutdown, name="last spans", daemon=True)
    last.start()
    last.join(_LAST_EXPORT_S)


def current_tracer() -> Tracer | None:
    """Return the tracer of this process; None where nothing is traced."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, ProxyTracerProvider | NoOpTracerProvider):
        return None
    known = _tracers.get(id(provider))
    if known is None or known[0] is not provider:
        _tracers.clear()
        known = _tracers[id(provider)] = provider, provider.get_tracer("tapewire", _version())
    return known[1]


def current_traceparent() -> str | None:
    """Return the W3C trace context of the present span; None without one."""
    return traceparent_of(trace.get_current_span())


def traceparent_of(span: Span) -> str | None:
    """Return the W3C trace context of a span; None for one that is not valid."""
    at = span.get_span_context()
    if not at.is_valid:
        return None
    return f"00-{at.trace_id:032x}-{at.span_id:016x}-{at.trace_flags:02x}"


def parsed(traceparent: bytes | str | None) -> SpanContext | None:
    """Return the span that a W3C trace context names; None if the text is not one."""
    if traceparent is None:
        return None
    if isinstance(traceparent, bytes):
        traceparent = traceparent.decode("ascii", errors="replace")
    if not _TRACEPARENT.fullmatch(traceparent):
        return None
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
    )


def writer_of(headers: Headers) -> SpanContext | None:
    """Return the span in which a record was written, by its headers; None if they name none."""
    for name, value in headers:
        if name == TRACEPARENT:
            return parsed(value)
    return None


def continued(traceparent: str | None) -> AbstractContextManager[object]:
    """Return a context in which new spans follow a caller's, where this process is traced."""
    caller = None if current_tracer() is None else parsed(traceparent)
    return nullcontext() if caller is None else _within(caller)


@contextmanager
def _within(span: SpanContext) -> Generator[None]:
    token = context.attach(trace.set_span_in_context(NonRecordingSpan(span)))
    try:
        yield
    finally:
        context.detach(token)


@contextmanager
def sending(topic: str) -> Generator[Span | None]:
    """Make the span of a record that is written, in which its headers must be made.

    Args:
        topic: the topic's full name.

    Returns:
        The span, for `sent`; None where nothing is traced.
    """
    tracer = current_tracer()
    if tracer is None:
        yield None
        return
    attributes = messaging("send", "send", topic)
    with (
        tracer.start_as_current_span(
            f"send {topic}",
            kind=SpanKind.PRODUCER,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span,
        _noting(span),
    ):
        yield span


@contextmanager
def processing(topic: str, partition: int, offset: int, headers: Headers) -> Generator[None]:
    """Make the span of one message that is processed: a child of its writer's, and linked to it."""
    tracer = current_tracer()
    if tracer is None:
        yield
        return
    writer = writer_of(headers)
    parent = None if writer is None else trace.set_span_in_context(NonRecordingSpan(writer))
    with (
        tracer.start_as_current_span(
            f"process {topic}",
            context=parent,
            kind=SpanKind.CONSUMER,
            attributes=messaging("process", "process", topic) | position(partition, offset),
            links=[] if writer is None else [Link(writer)],
            record_exception=False,
            set_status_on_exception=False,
        ) as span,
        _noting(span),
    ):
        yield


def serving(
    method: str, route: str, traceparent: str | None
) -> AbstractContextManager[Span | None]:
    """Return the span of a request that opens a stream; it ends when the stream is open.

    Args:
        method: the request's method.
        route: the pattern of its path.
        traceparent: the W3C trace context of its caller; None for none.

    Returns:
        A context with the span; without one where nothing is traced.
    """
    tracer = current_tracer()
    if tracer is None:
        return nullcontext()
    caller = parsed(traceparent)
    return _opening(tracer, method, route, caller)


@contextmanager
def _opening(
    tracer: Tracer, method: str, route: str, caller: SpanContext | None
) -> Generator[Span]:
    with (
        tracer.start_as_current_span(
            f"{method} {route}",
            context=None if caller is None else trace.set_span_in_context(NonRecordingSpan(caller)),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "http.route": route},
            record_exception=False,
            set_status_on_exception=False,
        ) as span,
        _noting(span),
    ):
        yield span


def messaging(operation: str, kind: str, topic: str) -> dict[str, str | int]:
    """Return the attributes of every span about a topic."""
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": topic,
    }


def position(partition: int, offset: int) -> dict[str, str | int]:
    """Return the attributes of a span about one record."""
    return {
        "messaging.destination.partition.id": str(partition),
        "messaging.kafka.offset": offset,
    }


def fail(span: Span, error: BaseException) -> None:
    """Note on a span that an error has ended it. Its text may be a client's, so only its class."""
    span.set_status(StatusCode.ERROR, type(error).__name__)
    span.set_attribute("error.type", type(error).__name__)


@contextmanager
def _noting(span: Span) -> Generator[None]:
    try:
        yield
    except BaseException as error:
        fail(span, error)
        raise


def _version() -> str:
    try:
        return version("tapewire")
    except PackageNotFoundError:  # run from a folder
        return ""
