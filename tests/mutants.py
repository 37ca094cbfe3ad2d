"""Planted bugs that the tests must catch: `make mutants`.

Each is a fault that a developer could make at a seam, a change of a few characters. It is planted
into a copy of the code, and the tests without Kafka of its part run until one fails. A mutant that
lives is a promise without a test.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
TESTS = {
    "sse_edge": ("tests/sse_edge", "tests/promises"),
    "stream_processors": (
        "tests/stream_processors/test_stream_task.py",
        "tests/stream_processors/test_worker.py",
        "tests/stream_processors/test_growths.py",
        "tests/stream_processors/test_past_growths.py",
        "tests/stream_processors/test_copied_topics.py",
        "tests/stream_processors/agents/test_tenants.py",
        "tests/stream_processors/test_gate.py",
        "tests/stream_processors/windowing/test_candles.py",
    ),
    "stream_processors/risk": (
        "tests/stream_processors/risk/test_portfolio.py",
        "tests/stream_processors/risk/test_takeover.py",
        "tests/stream_processors/risk/test_log_replay.py",
        "tests/stream_processors/agents/test_tenants.py",
    ),
    "stream_processors/books": ("tests/stream_processors/books/test_alerts.py",),
    "stream_processors/agents": (
        "tests/stream_processors/agents/test_books.py",
        "tests/stream_processors/agents/test_stress.py",
        "tests/stream_processors/agents/test_tenants.py",
    ),
    "stream_processors/notifications": (
        "tests/stream_processors/notifications",
        "tests/kafka_io/test_sealing.py",
    ),
    "cli": ("tests/cli/test_rebuild.py", "tests/cli/test_log_beginning.py"),
    "kafka_io": ("tests/kafka_io",),
    "infra": ("tests/infra/test_data_dir.py",),
    "producers": ("tests/producers/backtesting/test_strategies.py",),
}
"""The tests of a part, by its folder; those of the innermost folder run."""
TIMEOUT_S = 240


class Mutant(NamedTuple):
    """One change to one file."""

    name: str
    file: str
    old: str
    new: str


MUTANTS = (
    Mutant(
        "schema registry: an outage is waited for once for each schema",
        "kafka_io/framing.py",
        "waited_s = max(waited_s, now_s - self._away_since_s)",
        "pass",
    ),
    Mutant(
        "books: a risk that is there again has the id of the earlier one",
        "stream_processors/agents/books.py",
        "if last is not None and brings_newer_day(risk, last, topic):",
        "if True:",
    ),
    Mutant(
        "books: changed holdings are a newer measure",
        "stream_processors/books/alerts.py",
        "return topic == RISK_SERIES.name and risk.as_of_us > last.as_of_us",
        "return risk.as_of_us > last.as_of_us",
    ),
    Mutant(
        "risk: a measure that is published again is a repeat",
        "stream_processors/risk/portfolio.py",
        "event_id=self._measure_id() + self._again,",
        "event_id=self._measure_id(),",
    ),
    Mutant(
        "rebuild: acknowledgements are not compared",
        "cli/rebuild.py",
        "(watch.level, watch.acknowledged, watch.transitions)",
        "(watch.level, False, watch.transitions)",
    ),
    Mutant(
        "rebuild: alerts about missing measures are compared",
        "cli/rebuild.py",
        "        if watch.alert_id is not None and watch.rule_id != STALE",
        "        if watch.alert_id is not None",
    ),
    Mutant(
        "rebuild: equal transitions of two tenants are one",
        "cli/rebuild.py",
        "            found.add((named, step))",
        "            found.add((None, step))",
    ),
    Mutant(
        "rebuild: a limit put since makes a measure another one",
        "cli/rebuild.py",
        "_EQUAL if _without_limits(before) == _without_limits(after) else _DIFFERENT",
        "_EQUAL if before == after else _DIFFERENT",
    ),
    Mutant(
        "rebuild: a log that begins after the state will do",
        "cli/log_beginning.py",
        "        return self.logged_us is None or self.logged_us > self.held_us",
        "        return self.logged_us is None",
    ),
    Mutant(
        "rebuild: deleted limits will do",
        "cli/log_beginning.py",
        "            and 0 <= state.limits_offset < limits.begin",
        "            and 0 < state.limits_offset < limits.begin - 1",
    ),
    Mutant(
        "rebuild: states move before all of the growth is read",
        "stream_processors/past_growths.py",
        "    return max(offsets.committed or 0, offsets.begin) >= min(start, offsets.end)",
        "    return max(offsets.committed or 0, offsets.begin) + 1 >= min(start, offsets.end)",
    ),
    Mutant(
        "rebuild: a growth waits for deleted records",
        "stream_processors/past_growths.py",
        "    return max(offsets.committed or 0, offsets.begin) >= min(start, offsets.end)",
        "    return (offsets.committed or 0) >= min(start, offsets.end)",
    ),
    Mutant(
        "rebuild: scenarios since are not applied",
        "stream_processors/agents/risk.py",
        "        return last | {prefix + RISK_SCENARIOS.name: here.scenarios_offset}",
        "        return last | {prefix + RISK_SCENARIOS.name: -1}",
    ),
    Mutant(
        "rebuild: a temporary limit begins again",
        "stream_processors/risk/limited.py",
        "            self._end_limits_as(present)\n",
        "",
    ),
    Mutant(
        "rebuild: a lower level takes the acknowledgement back",
        "stream_processors/risk/takeover.py",
        "    survives = present.acknowledged and rebuilt.level <= present.level",
        "    survives = present.acknowledged and rebuilt.level < present.level",
    ),
    Mutant(
        "replay: returns of the same time come before limits",
        "stream_processors/risk/log_replay.py",
        "key=lambda at: (at.partition, at.timestamp, ranks[at.topic], at.offset)",
        "key=lambda at: (at.partition, at.timestamp, -ranks[at.topic], at.offset)",
    ),
    Mutant(
        "replay: the measure of another method stays",
        "stream_processors/risk/log_replay.py",
        "        del measurement\n        return False",
        "        return super()._holds(measurement)",
    ),
    Mutant(
        "risk: what is too old for all is accepted",
        "stream_processors/risk/portfolio.py",
        "            return ReturnOutcome.LATE if is_before_all and",
        "            return ReturnOutcome.LATE if False and",
    ),
    Mutant(
        "task: a time is known before all messages are here",
        "stream_processors/input_queue.py",
        "            self._received.get(where, 0) >= end for where, end in ends.items()",
        "            self._received.get(where, 0) >= 0 for where, end in ends.items()",
    ),
    Mutant(
        "task: a clock that is ahead is the log's",
        "stream_processors/stream_task.py",
        "        return now_us - _CLOCKS_US if is_read else None",
        "        return now_us if is_read else None",
    ),
    Mutant(
        "notifier: a message is sent before it is in the log",
        "stream_processors/notifications/processors.py",
        "and not self._is_fresh(message_id(queue, message), this_round)",
        "and True",
    ),
    Mutant(
        "notifier: what happened before the route was made is sent",
        "stream_processors/notifications/processors.py",
        "if log_time_us(message) >= route.since_us:",
        "if log_time_us(message) >= 0:",
    ),
    Mutant(
        "notifier: jobs of a user are sent by the routes of all",
        "stream_processors/notifications/routing.py",
        "return may_follow(note.entity_id, Owner(route.owner_tenant, route.set_by))",
        "return True",
    ),
    Mutant(
        "notifier: private addresses are connected to",
        "stream_processors/notifications/destinations.py",
        "return address.is_global and not address.is_multicast and not is_listed",
        "return not address.is_multicast and not is_listed",
    ),
    Mutant(
        "notifier: an open alert is told of again",
        "stream_processors/notifications/queue.py",
        "    if is_known and not (route.escalations",
        "    if False and not (route.escalations",
    ),
    Mutant(
        "notifier: a reference leads out of the tenant's folder",
        "stream_processors/notifications/settings.py",
        'name = quote(text, safe="")',
        "name = text",
    ),
    Mutant(
        "lap: a return of a lap that is over is added",
        "stream_processors/risk/portfolio.py",
        "        if lap < self.lap:",
        "        if lap < 0:",
    ),
    Mutant(
        "correction: the measure after it waits for the next return",
        "stream_processors/risk/portfolio.py",
        "evaluation=_MEASURE if is_next else Evaluation.CORRECTION,",
        "evaluation=_MEASURE,",
    ),
    Mutant(
        "correction: its day is not judged again",
        "stream_processors/risk/portfolio.py",
        "            self._backtest.correct(at_us, value, version)",
        "            pass",
    ),
    Mutant(
        "lap: alerts stay open",
        "stream_processors/risk/portfolio.py",
        "return outcome, [*cleared, *alerts]",
        "return outcome, alerts",
    ),
    Mutant(
        "backtest: an order is filled at the close that decided it",
        "producers/backtesting/strategies.py",
        "held = decided if at_close else np.concatenate(([0.0], decided[:-1]))",
        "held = decided",
    ),
    Mutant(
        "candles: trades of one instant close by the order of their arrival",
        "stream_processors/windowing/candles.py",
        "close=price if place >= self.last else candle.close",
        "close=price if place.time_us >= self.last.time_us else candle.close",
    ),
    Mutant(
        "candles: a trade of an open minute is late",
        "stream_processors/windowing/candles.py",
        "return _minute_of(trade) + _MINUTE_US <= self._watermark_us",
        "return trade.time_us < self._watermark_us",
    ),
    Mutant(
        "backtest: a buy leaves no room for its commission",
        "producers/backtesting/strategies.py",
        "    quantity = cash / (price * (1 + commission))\n    while quantity * price + quantity * "
        "price * commission > cash:",
        "    quantity = cash / price\n    while quantity * price > cash:",
    ),
    Mutant(
        "backtest: the first bar counts as a return of zero",
        "producers/backtesting/strategies.py",
        "        return self.capital[1:] / self.capital[:-1] - 1",
        "        return self.capital / np.concatenate(([self.cash], self.capital[:-1])) - 1",
    ),
    Mutant(
        "reset: a directory without the mark is removed",
        "infra/data_dir.py",
        "    if not _is_marked(data_dir):\n        raise DirectoryNotOurs(",
        "    if not data_dir.is_dir():\n        raise DirectoryNotOurs(",
    ),
    Mutant(
        "cluster: a dead node is counted for hours",
        "sse_edge/routes/cluster.py",
        "MISSED_MAX * 1_000 * node.interval_s",
        "MISSED_MAX * 1_000_000 * node.interval_s",
    ),
    Mutant(
        "accepted: a removed job is found again",
        "sse_edge/routes/accepted.py",
        "                if _is_removal(event):\n                    return None\n",
        "",
    ),
    Mutant(
        "accepted: a processor that goes past a job is not waited for",
        "sse_edge/routes/accepted.py",
        "        return await self._states.find(run_id, _SETTLE_S, tenant)\n",
        "        return None\n",
    ),
    Mutant(
        "accepted: a log that cannot be read is a missing job",
        "sse_edge/routes/accepted.py",
        "except TimeoutError:\n            raise LogUnavailable",
        "except TimeoutError:\n            return None\n            raise LogUnavailable",
    ),
    Mutant(
        "heartbeat: a block without data puts a ping off",
        "sse_edge/delivery/connection.py",
        "            self._last_seen_s = seen_s",
        "            self._last_seen_s = max(seen_s, _now_s())",
    ),
    Mutant(
        "heartbeat: the seconds that a client asks for are ignored",
        "sse_edge/delivery/connection.py",
        "return self._options.heartbeat_s or own_s",
        "return own_s",
    ),
    Mutant(
        "history: a gain above the forecast is an exception",
        "sse_edge/routes/measures.py",
        "if forecast is not None and -value > forecast",
        "if forecast is not None and value > forecast",
    ),
    Mutant(
        "open edge: an expired token of its own is ignored",
        "sse_edge/http/auth.py",
        "if rules.is_demo and not isinstance(error, jwt.ExpiredSignatureError):",
        "if rules.is_demo:",
    ),
    Mutant(
        "window to live: the broadcast group skips a record",
        "sse_edge/delivery/feed.py",
        "entries, truncated, behind = self._entries(self.horizon, until)",
        "entries, truncated, behind = self._entries(tuple(n + 1 for n in self.horizon), until)",
    ),
    Mutant(
        "one event to live: its id is the cursor before it",
        "sse_edge/delivery/feed.py",
        "self._writer.write((record.offset + 1,))",
        "self._writer.write((record.offset,))",
    ),
    Mutant(
        "one event to live: the event before it is skipped",
        "sse_edge/delivery/feed.py",
        "(older is not None and older.record.offset >= offset)",
        "(older is not None and older.record.offset > offset)",
    ),
    Mutant(
        "window to live: a dropped subscriber takes the horizon for its position",
        "sse_edge/delivery/broadcast.py",
        "self._dropped[subscriber] = position",
        "self._dropped[subscriber] = self.feed.horizon",
    ),
    Mutant(
        "history to live: one block too few",
        "sse_edge/delivery/history.py",
        "index = bisect_right(self._sums, sum(position), lo=self._evicted)",
        "index = bisect_right(self._sums, sum(position), lo=self._evicted) + 1",
    ),
    Mutant(
        "history to live: one block too many",
        "sse_edge/delivery/history.py",
        "return self._blocks[index:last], self._positions[last - 1]",
        "return self._blocks[max(0, index - 1):last], self._positions[last - 1]",
    ),
    Mutant(
        "history: another node's order is taken for this one's",
        "sse_edge/delivery/history.py",
        "fits = _between(before, position, after) and position[partition] < after[partition]",
        "fits = True",
    ),
    Mutant(
        "Kafka to window: a piece ends one record later",
        "sse_edge/cache/catch_up.py",
        "return Piece(piece.entries[first:], piece.next_offset, piece.rendering, first)",
        "return Piece(piece.entries[first:], piece.next_offset + 1, piece.rendering, first)",
    ),
    Mutant(
        "Kafka to window: a piece begins one record later",
        "sse_edge/cache/catch_up.py",
        "first = bisect_right(piece.offsets, offset - 1)",
        "first = bisect_right(piece.offsets, offset)",
    ),
    Mutant(
        "Kafka to window: the record after a slice is skipped",
        "sse_edge/delivery/connection.py",
        "until = rest[0].record.offset if rest else result.next_offset",
        "until = rest[0].record.offset + 1 if rest else result.next_offset",
    ),
    Mutant(
        "a window claims to cover a record that it has evicted",
        "sse_edge/cache/window.py",
        "return offset >= self.start",
        "return offset >= self.start - 1",
    ),
    Mutant(
        "a window's key index forgets the newest",
        "sse_edge/cache/window.py",
        "while entry is not None and entry.record.offset >= offset:",
        "while entry is not None and entry.record.offset > offset:",
    ),
    Mutant(
        "a resumed cursor is one record too far",
        "sse_edge/delivery/start.py",
        "positions |= {partition: offsets.get(partition.number, 0) for partition in of_topic}",
        "positions |= {p: offsets.get(p.number, -1) + 1 for p in of_topic}",
    ),
    Mutant(
        "an idle partition is resumed at latest",
        "sse_edge/delivery/start.py",
        "positions |= {partition: offsets.get(partition.number, 0) for partition in of_topic}",
        "positions |= {p: offsets.get(p.number) or tail.windows[p].next_offset for p in of_topic}",
    ),
    Mutant(
        "an added partition is read from its end",
        "sse_edge/delivery/start.py",
        "positions |= {partition: offsets.get(partition.number, 0) for partition in of_topic}",
        "positions |= {p: offsets.get(p.number, tail.windows[p].next_offset) for p in of_topic}",
    ),
    Mutant(
        "a heartbeat has an id",
        "sse_edge/delivery/control_events.py",
        "return dialect.beat(client, _now())",
        "return dialect.beat(client, _now())[:-1] + b'id: AAAA\\n\\n'",
    ),
    Mutant(
        "an event's id is the cursor before it",
        "sse_edge/delivery/feed.py",
        "self._writer.move(cells, index, moved[index])",
        "self._writer.move(cells, index, moved[index] - 1)",
    ),
    Mutant(
        "an id is not the last line of its block",
        "sse_edge/frame.py",
        'return b"%bid: %b\\n\\n" % (unfinished, cursor)',
        'return b"id: %b\\n%b\\n" % (cursor, unfinished)',
    ),
    Mutant(
        "a recreated topic is read on",
        "sse_edge/cache/tail.py",
        "if info is not None and info != followed.info and not followed.replaced:",
        "if info is not None and info.partitions != followed.info.partitions:",
    ),
    Mutant(
        "a log that has lost its end is read on",
        "sse_edge/cache/topic_tail.py",
        "if found.get(record.offset, record) != record:",
        "if record.offset not in found:",
    ),
    Mutant(
        "a gap is passed in silence",
        "sse_edge/delivery/connection.py",
        "            self._write(self._gap_events(gaps))\n",
        "",
    ),
    Mutant(
        "after a gap, the stream continues one record too far",
        "sse_edge/delivery/start.py",
        "return Gap(GapReason.EXPIRED, partition, offset, begin)",
        "return Gap(GapReason.EXPIRED, partition, offset, begin + 1)",
    ),
    Mutant(
        "checkpoints of filtered streams are not sent",
        "sse_edge/delivery/connection.py",
        "if unsent > 0 and is_due:",
        "if unsent < 0 and is_due:",
    ),
    Mutant(
        "a repeat is delivered twice",
        "sse_edge/delivery/feed.py",
        "        if entry.is_repeat or not self._is_readable(entry.record):\n",
        "        if not self._is_readable(entry.record):\n",
    ),
    Mutant(
        "a stream delivers the events of other tenants",
        "sse_edge/delivery/feed.py",
        "        return self._tenant is None or record.tenant == self._tenant\n",
        "        return True\n",
    ),
    Mutant(
        "a user of a tenant gets the backtests of another",
        "sse_edge/delivery/feed.py",
        "        if self._owner is not None and not self._owns(index, entry.record, frame):\n"
        "            return None\n",
        "",
    ),
    Mutant(
        "a view takes an entity of another tenant for the same",
        "sse_edge/cache/table_rows.py",
        "            return self._rows.get((tenant.encode(), entity_id))\n",
        "            tenant = None\n",
    ),
    Mutant(
        "the returns of two tenants go to one portfolio",
        "stream_processors/risk/risk_batch.py",
        "        portfolios = self._known[found.tenant]\n",
        "        portfolios = self._known[None]\n",
    ),
    Mutant(
        "a key and a header of two tenants are let in",
        "stream_processors/gate.py",
        "(foreign := fault_of_key(message.key, tenant)) is not None:\n",
        "(foreign := fault_of_key(message.key, tenant)) is None:\n",
    ),
    Mutant(
        "an alert that is closed is deleted under nobody's key",
        "stream_processors/risk/risk_batch.py",
        "            encode_key(alert.alert_id, tenant)\n",
        "            encode_key(alert.alert_id)\n",
    ),
    Mutant(
        "the shared compressor does not forget",
        "sse_edge/compression.py",
        "        shared.forget()\n",
        "",
    ),
    Mutant(
        "the stream of an ended job is counted until its client leaves",
        "sse_edge/delivery/node.py",
        "                del self._ended[session]\n                self._dismiss(session)\n",
        "                del self._ended[session]\n",
    ),
    Mutant(
        "an ended stream writes a cursor after its end",
        "sse_edge/delivery/connection.py",
        "if not (self._has_ended or self._is_closed):",
        "if not self._is_closed:",
    ),
    Mutant(
        "fencing: whoever holds the log's epoch may write",
        "stream_processors/stream_task.py",
        "async with self._kafka.open_writer(self.number) as writer:\n"
        "                    await self._recover()\n",
        "await self._recover()\n"
        "                async with self._kafka.open_writer(self.number) as writer:\n",
    ),
    Mutant(
        "recovery: the last row counts, and not the committed offset",
        "stream_processors/stream_task.py",
        "offset = min(candidates, default=log.begin)",
        "offset = max(candidates, default=log.begin)",
    ),
    Mutant(
        "upgrade: rows of the first release that are ahead of its commit are added to again",
        "stream_processors/stream_task.py",
        "row_limits[topic] = max(offsets[topic], ahead)",
        "row_limits[topic] = offsets[topic]",
    ),
    Mutant(
        "upgrade: the first commit forgets that rows may be ahead",
        "stream_processors/stream_task.py",
        "row_limit if row_limit > next_offset else 0",
        "0",
    ),
    Mutant(
        "recovery: a topic that was made anew is read on from the old offset",
        "stream_processors/stream_task.py",
        "            offsets[topic] = row_limits[topic] = log.begin\n            continue\n",
        "",
    ),
    Mutant(
        "another cluster: its offsets are taken for those of this one",
        "stream_processors/log_marks.py",
        "return len(known) > 1 and all(before != now for before, now in known)",
        "return False",
    ),
    Mutant(
        "another cluster: the last record that was processed is processed again",
        "stream_processors/copied_topics.py",
        "return found + 1, found",
        "return found, found",
    ),
    Mutant(
        "recovery: an old generation's watch ends the worker",
        "stream_processors/worker.py",
        "                if generation == self._generation:\n",
        "                if True:\n",
    ),
    Mutant(
        "recovery: messages that were fetched for an earlier start are not fetched again",
        "stream_processors/worker.py",
        "            running.task.refetch()\n",
        "            return\n",
    ),
    Mutant(
        "recovery: messages of an earlier start are taken",
        "stream_processors/worker.py",
        "if (running.task, running.task.starts) == start:",
        "if running.task:",
    ),
    Mutant(
        "transaction: offsets are committed without what follows from them",
        "stream_processors/stream_task.py",
        "await self._write(writer, *this_round.records, row, offsets=changed)",
        "await self._write(writer, row, offsets=changed)",
    ),
    Mutant(
        "transaction: an offset is committed one too low",
        "stream_processors/stream_task.py",
        "self._next[where] = last.offset + 1",
        "self._next[where] = last.offset",
    ),
    Mutant(
        "lost end: a new leader is taken without comparing its log",
        "stream_processors/stream_task.py",
        "if epoch != known.leader_epoch:",
        "if epoch == known.leader_epoch:",
    ),
    Mutant(
        "lost end: reading goes on from where it was",
        "stream_processors/stream_task.py",
        "offset = min(offset, log.reused)",
        "offset = min(offset, log.end)",
    ),
    Mutant(
        "commands: a worker does not ask whether it still has the command",
        "kafka_io/command_writer.py",
        "if not await self._is_owner():",
        "if False:",
    ),
    Mutant(
        "commands: a fenced worker takes its command back",
        "kafka_io/command_writer.py",
        "except TransactionFailed as error:",
        "except (TransactionFailed, Fenced) as error:",
    ),
    Mutant(
        "growth: a task processes what belongs to another partition number",
        "stream_processors/stream_task.py",
        "found = self._placement.place(found, input_topic, this_round)",
        "found = list(found)",
    ),
    Mutant(
        "growth: a portfolio that has moved is measured where it was",
        "stream_processors/growths.py",
        "            if before == partition and partition_of(key, growth.new_count) != partition:",
        "            if False:",
    ),
    Mutant(
        "growth: a record that was processed before the growth is forwarded",
        "stream_processors/growths.py",
        "return None if message.offset < start else",
        "return None if message.offset < 0 else",
    ),
    Mutant(
        "growth: a state that has moved takes its new partition's first records for known",
        "stream_processors/growths.py",
        "row, partition=home, offset=-1, index=-1, limits_offset=-1, acks_offset=-1",
        "row, partition=home",
    ),
    Mutant(
        "growth: a worker of the earlier count goes on",
        "stream_processors/growths.py",
        "if self.count != count or self.has_moved(number):",
        "if self.has_moved(number):",
    ),
    Mutant(
        "publisher: a late acknowledgement is a refusal",
        "kafka_io/publisher.py",
        "            if not entry.is_settled:\n                raise self._unsent",
        "            if True:\n                raise self._unsent",
    ),
    Mutant(
        "publisher: a whole batch is refused for one record",
        "kafka_io/publisher.py",
        "            if entry.is_suspect:\n                entry.doubts += 1",
        "            if True:\n                entry.doubts += 1",
    ),
    Mutant(
        "clients: an error that nobody waits for is logged",
        "kafka_io/tidy_clients.py",
        "    if not future.cancelled():\n        future.exception()",
        "    pass",
    ),
    Mutant(
        "clients: a batch that has failed is sent after all",
        "kafka_io/tidy_clients.py",
        "        if batch.future.done():",
        "        if False:",
    ),
    Mutant(
        "publisher: a suspect shares its batch",
        "kafka_io/publisher.py",
        "                    if entry.is_suspect:\n                        closed.add(home)",
        "                    if False:\n                        closed.add(home)",
    ),
    Mutant(
        "publisher: a refusal without a caller is forgotten",
        "kafka_io/publisher.py",
        "        if self._unreported:",
        "        if False:",
    ),
    Mutant(
        "publisher: a missing topic is waited for",
        "kafka_io/publisher.py",
        "elif now_s - entry.missing_since_s >= self._missing_s:",
        "elif False:",
    ),
)


def verdict(mutant: Mutant, folder: Path) -> str:
    """Run the tests with a mutant: it `LIVES`, is `caught`, or `hangs`."""
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(
        ROOT,
        copy,
        ignore=shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "*tapewire-data"),
    )
    path = copy / mutant.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise SystemExit(f"{mutant.name}: its text occurs {text.count(mutant.old)} times")
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    pytest = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider")
    part = max((folder for folder in TESTS if mutant.file.startswith(f"{folder}/")), key=len)
    # Any example that fails will do, and to find the smallest one can take ten minutes.
    quick = ("--hypothesis-profile", "unshrunk")
    command = [*pytest, *quick, "-m", "not kafka", *TESTS[part]]
    try:
        ran = subprocess.run(
            command, cwd=copy, timeout=TIMEOUT_S, capture_output=True, check=False, text=True
        )
    except subprocess.TimeoutExpired:
        return "hangs"
    if ran.returncode not in (0, 1):
        raise SystemExit(f"{mutant.name}: the tests did not run\n{ran.stdout[-2000:]}")
    return "caught" if ran.returncode else "LIVES"


def main() -> None:
    """Plant each; exit with 1 if a mutant lives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="?", default="", help="plant bugs with this in their name")
    only = parser.parse_args().only
    alive, hanging = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for mutant in (mutant for mutant in MUTANTS if only in mutant.name):
            began = time.monotonic()
            found = verdict(mutant, Path(folder))
            alive += [mutant.name] if found == "LIVES" else []
            hanging += found == "hangs"
            print(f"{found:6} {time.monotonic() - began:5.0f} s  {mutant.name}", flush=True)
    print(f"{len(alive)} of {len(MUTANTS)} planted bugs live" if alive else "all are caught")
    if hanging:
        print(f"the tests of {hanging} took {TIMEOUT_S} s; on a slow machine this proves nothing")
    sys.exit(1 if alive else 0)


if __name__ == "__main__":
    main()
