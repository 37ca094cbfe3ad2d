import os
import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from kafka_io import tracing
from kafka_io.errors import InvalidSetting, RecordRefused
from kafka_io.publisher import outgoing_record
from kafka_io.settings import ProducerSettings
from producers.progress import training_progress
from tests.support.spans import Spans, attributes_of, collected_spans

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.fixture
def spans() -> Iterator[Spans]:
    with collected_spans() as found:
        yield found


@pytest.mark.parametrize(
    ("environ", "is_wanted"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "True"}, False),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, False),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "otlp"}, True),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, False),
    ],
)
def test_spans_are_exported_where_an_endpoint_is_set(
    environ: Mapping[str, str],
    is_wanted: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    assert tracing.is_wanted(environ) is is_wanted


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        (
            {"OTEL_TRACES_EXPORTER": "zipkin"},
            "OTEL_TRACES_EXPORTER is zipkin; it must be otlp or none",
        ),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL is grpc; it must be http/protobuf",
        ),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is grpc; it must be http/protobuf",
        ),
    ],
)
def test_what_the_system_does_not_have_is_refused(environ: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        tracing.is_wanted(ENDPOINT | environ)
    assert str(refused.value) == text


def test_without_an_endpoint_nothing_of_the_sdk_is_imported() -> None:
    program = (
        "import sys; from kafka_io import publisher, tracing; tracing.configure_tracing('edge'); "
        "assert tracing.current_tracer() is None; tracing.stop_tracing(); "
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    )
    environ = {name: text for name, text in os.environ.items() if not name.startswith("OTEL_")}
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environ
    )
    assert ran.stdout == "[]\n"


def test_a_collector_that_does_not_answer_keeps_no_process_from_ending() -> None:
    program = (
        "import time; from kafka_io import tracing; tracing.configure_tracing('trainer'); "
        "from opentelemetry import trace\n"
        "with tracing.sending('t'): pass\n"
        "provider = trace.get_tracer_provider()\n"
        "print(provider.resource.attributes['service.name'],\n"
        "      provider.resource.attributes['deployment'])\n"
        "began_s = time.monotonic(); tracing.stop_tracing()\n"
        "assert time.monotonic() - began_s < 5"
    )
    environ = os.environ | ENDPOINT | {"OTEL_RESOURCE_ATTRIBUTES": "deployment=test"}
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environ
    )
    assert ran.stdout == "tapewire-trainer test\n"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InvalidSetting, match=r"install `tapewire\[tracing\]`"):
        tracing.configure_tracing("edge")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        CALLER.upper(),
        CALLER + "\n",
        CALLER + "-00",
        CALLER.replace("00-", "ff-", 1),
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
        CALLER.replace("0af", "ä", 1),
    ],
)
def test_a_text_that_is_no_trace_context_is_none(text: str) -> None:
    assert tracing.parsed(text) is None
    assert tracing.parsed(text.encode()) is None


def test_a_trace_context_names_a_span_and_back() -> None:
    at = tracing.parsed(CALLER)
    assert at is not None
    assert at.is_remote
    assert tracing.traceparent_of(trace.NonRecordingSpan(at)) == CALLER
    assert len(CALLER) == tracing.TRACEPARENT_CHARS
    assert tracing.traceparent_of(trace.INVALID_SPAN) is None
    assert tracing.writer_of([("a", b""), ("traceparent", CALLER.encode())]) == at
    assert tracing.writer_of([("traceparent", None)]) is None
    assert tracing.writer_of([]) is None


def test_a_record_carries_the_span_in_which_it_is_sent(spans: Spans) -> None:
    event = training_progress("t", 50.0, "running", "", {}, now_us=0)
    with tracing.continued(CALLER), tracing.sending("training.events") as span:
        assert span is not None
        record = outgoing_record(event, ProducerSettings(), tenant=None)
        span.set_attributes(tracing.position(3, 17))
    (sent,) = spans.all
    assert sent.name == "send training.events"
    assert sent.kind is SpanKind.PRODUCER
    assert sent.parent == tracing.parsed(CALLER)
    assert attributes_of(sent) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "training.events",
        "messaging.destination.partition.id": "3",
        "messaging.kafka.offset": 17,
    }
    writer = tracing.writer_of(record.headers)
    assert writer is not None
    assert sent.context is not None
    assert (writer.trace_id, writer.span_id) == (sent.context.trace_id, sent.context.span_id)
    assert writer.trace_id == int(CALLER.split("-")[1], 16)


def test_a_record_that_is_not_written_leaves_the_class_of_its_error_only(spans: Spans) -> None:
    with pytest.raises(RecordRefused), tracing.sending("t"):
        raise RecordRefused("a secret")
    (sent,) = spans.all
    assert sent.status.status_code is StatusCode.ERROR
    assert attributes_of(sent)["error.type"] == "RecordRefused"
    assert "secret" not in sent.to_json()


def test_a_command_is_a_child_of_its_writer_and_what_follows_is_its_own_child(
    spans: Spans,
) -> None:
    headers = [("ce_id", b"1"), ("traceparent", CALLER.encode())]
    with tracing.processing("training.commands", 2, 7, headers), tracing.sending("training.events"):
        pass
    sent, processed = spans.all
    assert processed.name == "process training.commands"
    assert processed.kind is SpanKind.CONSUMER
    assert processed.parent == tracing.parsed(CALLER)
    assert [link.context for link in processed.links] == [tracing.parsed(CALLER)]
    assert attributes_of(processed)["messaging.kafka.offset"] == 7
    assert sent.parent == processed.context


def test_a_command_without_a_trace_begins_one(spans: Spans) -> None:
    with tracing.processing("training.commands", 2, 7, [("traceparent", b"no")]):
        pass
    (processed,) = spans.all
    assert processed.parent is None
    assert not processed.links


def test_a_request_is_a_child_of_its_caller(spans: Spans) -> None:
    with tracing.serving("GET", "/api/v1/sse/alerts", CALLER):
        pass
    with tracing.serving("GET", "/api/v1/sse/alerts", "made up"):
        pass
    first, second = spans.all
    assert (first.name, first.kind) == ("GET /api/v1/sse/alerts", SpanKind.SERVER)
    assert first.parent == tracing.parsed(CALLER)
    assert attributes_of(first)["http.route"] == "/api/v1/sse/alerts"
    assert second.parent is None


def test_where_nothing_is_traced_a_callers_context_is_not_passed_on() -> None:
    with tracing.continued(CALLER), tracing.sending("t") as span, tracing.processing("t", 0, 0, []):
        assert span is None
        assert tracing.current_traceparent() is None
    with tracing.serving("GET", "/", CALLER) as span:
        assert span is None


def test_a_request_that_fails_leaves_the_class_of_its_error_only(spans: Spans) -> None:
    with pytest.raises(ValueError, match="secret"), tracing.serving("GET", "/", None):
        raise ValueError("a secret")
    (served,) = spans.all
    assert served.status.status_code is StatusCode.ERROR
    assert attributes_of(served)["error.type"] == "ValueError"
    assert "secret" not in served.to_json()
