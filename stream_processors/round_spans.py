"""The spans of a stream task's rounds, each linked to the writers of the round's messages.

A span begins with the first messages of a round and ends with its transaction. The events of the
round carry it on. Where nothing is traced, each call returns at once, and there is one call for a
slice of messages, none for a message.
"""

from collections.abc import Sequence
from contextvars import Token

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Tracer

from kafka_io import tracing
from kafka_io.dead_letters import Message
from stream_processors.processor import Round

LINKS_MAX = 128
"""The most links of a span, as the SDK has it by default."""


class RoundSpans:
    """The span of the present round of one partition number."""

    def __init__(self, tracer: Tracer | None, number: int, group: str = "") -> None:
        """Trace the rounds of a task.

        Args:
            tracer: makes the spans; None if nothing is traced.
            number: the partition number.
            group: the group that reads.
        """
        self._tracer = tracer
        self._number = number
        self._group = group
        self._span: Span | None = None
        self._token: Token[Context] | None = None
        self._topics: set[str] = set()
        self._messages = self._links = 0

    def read(self, messages: Sequence[Message], this_round: Round) -> None:
        """Begin the round's span with its first messages, and link it to the writers of all."""
        if self._tracer is None or not messages:
            return
        links: list[Link] = []
        for message in messages:
            self._topics.add(message.topic)
            if self._links + len(links) < LINKS_MAX:
                writer = tracing.writer_of(message.headers or ())
                if writer is not None:
                    where = tracing.position(message.partition, message.offset)
                    links.append(
                        Link(writer, {"messaging.destination.name": message.topic, **where})
                    )
        self._messages += len(messages)
        self._links += len(links)
        if self._span is None:
            self._span = self._begin(self._tracer, messages[0], links)
            this_round.traceparent = tracing.traceparent_of(self._span)
            self._token = context.attach(trace.set_span_in_context(self._span))
        else:
            for link in links:
                self._span.add_link(link.context, link.attributes)

    def committed(self, records: int) -> None:
        """End the round's span: its transaction is committed.

        Args:
            records: how many events and rows the transaction has.
        """
        if self._span is None:
            return
        self._span.set_attribute("tapewire.round.records", records)
        self._end(self._span)

    def failed(self) -> None:
        """End the span of a round that is dropped, and whose messages are processed again."""
        if self._span is None:
            return
        self._span.set_status(trace.StatusCode.ERROR, "the round was dropped")
        self._span.set_attribute("error.type", "dropped")
        self._end(self._span)

    def _begin(self, tracer: Tracer, first: Message, links: Sequence[Link]) -> Span:
        return tracer.start_span(
            f"process {first.topic}",
            context=Context(),  # a round has many causes, so it begins a trace of its own
            kind=SpanKind.CONSUMER,
            attributes={
                **tracing.messaging("process", "process", first.topic),
                "messaging.destination.partition.id": str(self._number),
                "messaging.consumer.group.name": self._group,
            },
            links=links,
        )

    def _end(self, span: Span) -> None:
        span.set_attribute("messaging.batch.message_count", self._messages)
        if len(self._topics) > 1:
            span.set_attribute("tapewire.round.topics", sorted(self._topics))
        if self._token is not None:
            context.detach(self._token)
        span.end()
        self._span = self._token = None
        self._topics = set()
        self._messages = self._links = 0
