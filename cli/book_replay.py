"""`tapewire risk replay-book`: the alerts that a book has raised, from the beginning of its log.

The processor of books is given the messages of the book's tree again, in the order of the log:
limits, acknowledgements, scenarios, holdings and returns. So the alerts have the ids that were
sent.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from cli.errors import InvalidArgument, NoHistory
from cli.log_beginning import missing_of_books, records_of
from cli.record_json import json_of
from cli.risk_replay import CLOCKS_US, alert_line, alert_row
from kafka_io.client import partition_of
from kafka_io.clock import now_us
from kafka_io.dead_letters import log_time_us
from kafka_io.errors import Unread
from kafka_io.settings import ProducerSettings
from schemas.codec import decode
from schemas.events import BookRisk, RiskAlert
from schemas.headers import tenant_in
from schemas.keys import encode_key
from schemas.topics import PARTITIONS, RISK_ALERTS, RISK_BOOK_RISKS
from stream_processors.agents.books import ORDERED, Books, concerns
from stream_processors.gate import RecordGate
from stream_processors.messages import Admitted
from stream_processors.processor import Processor, Round
from stream_processors.risk.scope import Scope
from stream_processors.settings import ProcessorSettings


@dataclass(slots=True)
class BookPast:
    """The result of a replay."""

    path: str
    """The book, as ROOT/BOOK."""
    alerts: list[RiskAlert] = field(default_factory=list)
    """All transitions of its alerts, in order."""
    risk: BookRisk | None = None
    """Its last risk; None if it is closed, or has never been."""

    def note(self, this_round: Round) -> None:
        """Note what a round has sent about the book."""
        for record in this_round.records:
            name = record.topic
            if name not in (RISK_ALERTS.name, RISK_BOOK_RISKS.name) or record.value is None:
                continue
            event = decode(record.value)
            if isinstance(event, RiskAlert) and event.entity_id == self.path:
                self.alerts.append(event)
            elif isinstance(event, BookRisk) and event.path == self.path:
                self.risk = event


def run(
    path: str, settings: ProducerSettings, tenant: str | None, processors: ProcessorSettings
) -> BookPast:
    """Read the log of a tenant's book from Kafka, and measure and judge the book again.

    Args:
        path: the book, as ROOT/BOOK.
        settings: where Kafka is.
        tenant: the tenant; None for none.
        processors: the settings of the running processors.

    Raises:
        InvalidArgument: the name is no book's.
        NoHistory: Kafka cannot be read, or the log has less than the present state holds.
    """
    root, slash, name = path.partition("/")
    if not (root and slash and name) or "/" in name:
        raise InvalidArgument(f"{path!r} names no book; write ROOT/BOOK, as in firm/tech")
    try:
        return asyncio.run(_replay(path, root, settings, tenant, processors))
    except (Unread, TimeoutError) as error:
        raise NoHistory(f"the log cannot be read: {error}") from error


async def _replay(
    path: str,
    root: str,
    settings: ProducerSettings,
    tenant: str | None,
    processors: ProcessorSettings,
) -> BookPast:
    processors = processors.model_copy(update={"topic_prefix": settings.topic_prefix})
    began_us = now_us()
    missing = await missing_of_books(settings, Scope(tenant or ""), root)
    if missing is not None:
        raise NoHistory(missing)
    key = encode_key(root, tenant)
    number = partition_of(key, PARTITIONS)
    found = [
        (rank, message)
        async for rank, message in _messages(number, settings, processors.ahead_us())
        if tenant_in(message.headers or ()) == tenant and concerns(message, {key})
        # The topics are read one after another: a record that was appended in the meantime may
        # depend on records of another topic that were not read.
        if log_time_us(message) <= began_us
    ]
    found.sort(key=lambda of: (of[1].timestamp, of[0], of[1].offset))
    return await replay_messages(
        path, [message for _, message in found], number, processors, began_us - CLOCKS_US
    )


async def replay_messages(
    path: str,
    messages: list[Admitted],
    number: int,
    processors: ProcessorSettings,
    until_us: int,
) -> BookPast:
    """Apply the messages of a tree as the running system has applied them.

    Args:
        path: the book, as ROOT/BOOK.
        messages: those of the ordered topics, in their order.
        number: the number of their partitions.
        processors: the settings of the running processors.
        until_us: the time of the log at the end; what was due by then is done.
    """
    # As in a rebuild, the answers to requests for series are in the log.
    changes = {"rebuild_version": "replay", "rebuild_tenant": None, "rebuild_erased": ""}
    books: Processor = Books(processors.model_copy(update=changes))
    states = {topic.name: {} for topic in books.states}  # type: dict[str, dict[bytes, Any]]
    books.recover(number, states, {topic.name: 0 for topic in books.inputs})
    past = BookPast(path)
    for message in messages:
        this_round = Round(number, "")
        await books.process([message], this_round)
        past.note(this_round)
    this_round = Round(number, "")
    this_round.read_until_us = until_us
    await books.tick(this_round)
    past.note(this_round)
    return past


async def _messages(
    number: int, settings: ProducerSettings, ahead_us: float
) -> AsyncIterator[tuple[int, Admitted]]:
    """Yield the messages of a partition number that the gate admits, with their topics' ranks."""
    prefix = settings.topic_prefix
    topics = {prefix + topic.name: topic for topic in ORDERED}
    gate = RecordGate(topics, lambda _: PARTITIONS, ahead_us)
    for rank, topic in enumerate(ORDERED):
        async for record in records_of(topic, number, settings):
            message = gate.admit(record)
            if isinstance(message, Admitted):
                yield rank, message


def of_days(past: BookPast, since_us: int, until_us: int) -> list[RiskAlert]:
    """Return the alerts whose measures are of some days."""
    return [alert for alert in past.alerts if since_us <= alert.event_time_us < until_us]


def as_json(past: BookPast, alerts: list[RiskAlert]) -> dict[str, Any]:
    """Return a replay for a program, with some of its alerts."""
    return {
        "book": past.path,
        "alerts": [alert_row(alert) for alert in alerts],
        "risk": None if past.risk is None else json_of(past.risk),
    }


def table(past: BookPast, alerts: list[RiskAlert]) -> list[str]:
    """Return some alerts of a replay, and the present risk, as lines of a table."""
    lines = [f"{'date':<12}{'step':<15}{'level':<10}{'metric':<16}message"]
    lines += [alert_line(alert) for alert in alerts] or ["nothing has alerted"]
    if past.risk is None:
        return [*lines, f"{past.path} is no book at the end of the log"]
    amount = past.risk.amounts.get("var_95")
    var = "no VaR at 95 %" if amount is None else f"VaR {amount:.2f} at 95 %"
    return [*lines, f"at the end of the log, {past.path} has {var}; {past.risk.status}"]
