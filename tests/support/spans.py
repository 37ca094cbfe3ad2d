"""Spans in memory, for tests. The process's own provider, which can be set only once, stays."""

from collections.abc import Generator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pytest import MonkeyPatch  # noqa: PT013  # as a type


class Spans:
    """The finished spans of a test."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def all(self) -> list[ReadableSpan]:
        """All of them, in the order in which they ended."""
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        """Return the only span of a name."""
        (found,) = [span for span in self.all if span.name == name]
        return found


@contextmanager
def collected_spans() -> Generator[Spans]:
    """Trace this process for a while."""
    spans = Spans()
    with MonkeyPatch.context() as patch:
        patch.setattr(trace, "get_tracer_provider", lambda: spans.provider)
        yield spans


def attributes_of(span: ReadableSpan) -> dict[str, object]:
    """Return the attributes of a span."""
    return dict(span.attributes or {})
