"""Real trades from a package as a stream: 100,000 trades of Bitcoin for dollars, over six days.

`ta4j-examples`, a Java package, ships trades of the exchange Bitstamp, 2013-11-25 to 2013-12-01,
to the second. Many share a second; their order in the file is the order in which they were made.
"""

import asyncio
import csv
import io
import logging
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from kafka_io.publisher import Publisher
from kafka_io.reader import read_newest, read_table
from kafka_io.settings import ProducerSettings
from producers.errors import NoTrades
from schemas.events import CandleState, Record, Trade, TradeBatch
from schemas.topics import MARKET_FORMING, MARKET_TRADES

logger = logging.getLogger(__name__)

SYMBOL = "BTC-USD"

_MEMBER = "bitstamp_trades_from_20131125_usd.csv"
_BATCH_TRADES = 500
_NEWEST = 100
"""The last records of a partition among which the last batch is looked for."""
_US = 1_000_000
_MINUTE_US = 60 * _US


def read_trades(jar: Path) -> Iterator[Trade]:
    """Return the packaged trades, in order.

    Raises:
        NoTrades: the file does not exist, or is another package.
    """
    try:
        with zipfile.ZipFile(jar) as package, package.open(_MEMBER) as packed:
            for row in csv.DictReader(io.TextIOWrapper(packed, encoding="ascii")):
                yield Trade(
                    time_us=int(row["timestamp"]) * _US,
                    price=float(row["price"]),
                    amount=float(row["amount"]),
                )
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise NoTrades(f"{jar} has no trades in {_MEMBER}: {error}") from error


def count_trades(jar: Path) -> int:
    """Return the number of packaged trades, without reading what is in them.

    Raises:
        NoTrades: the file does not exist, or is another package.
    """
    try:
        with zipfile.ZipFile(jar) as package, package.open(_MEMBER) as packed:
            rows = csv.reader(io.TextIOWrapper(packed, encoding="ascii"))
            return sum(1 for row in rows if row) - 1  # the first row has the names
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise NoTrades(f"{jar} has no trades in {_MEMBER}: {error}") from error


def batches(trades: Iterator[Trade]) -> Iterator[TradeBatch]:
    """Yield trades as events; the last one completes its minute."""
    first, batch = 0, list(islice(trades, _BATCH_TRADES))
    while batch:
        following = list(islice(trades, _BATCH_TRADES))
        last_us = batch[-1].time_us
        watermark_us = last_us if following else last_us - last_us % _MINUTE_US + _MINUTE_US
        yield TradeBatch(symbol=SYMBOL, first=first, trades=batch, watermark_us=watermark_us)
        first, batch = first + len(batch), following


async def run(settings: ProducerSettings, jar: Path, stop: asyncio.Event) -> None:
    """Write all trades that are not in Kafka yet, in order; then wait until `stop` is set.

    Raises:
        NoTrades: the package has no trades.
        Unsent: Kafka does not acknowledge within the settings' patience.
    """
    tenant = settings.tenant or ""
    states = await read_table(MARKET_FORMING, settings, tenant)
    if _next([*states.values()], ()) >= count_trades(jar):
        logger.info("all trades of %s were in Kafka", SYMBOL)
        await stop.wait()
        return
    newest = await read_newest(MARKET_TRADES, settings, count=_NEWEST, tenant=tenant)
    there = _next([*newest, *states.values()], batches(read_trades(jar)))
    sent = 0
    async with Publisher(settings) as publisher:
        for batch in batches(read_trades(jar)):
            if stop.is_set():
                return
            if batch.first + len(batch.trades) > there:
                # One batch after the other, so that no batch precedes an unsent one in the log.
                await publisher.publish(batch)
                sent += len(batch.trades)
    logger.info("%d trades of %s were in Kafka, %d are new", there, SYMBOL, sent)
    await stop.wait()


def _next(records: Sequence[Record], own: Iterable[TradeBatch]) -> int:
    """Return the number after the last trade that was written.

    Other symbols share the partition, and others may write trades of this one: a batch counts if
    it is one of the package. If many records of others follow, the processor's state tells.
    """
    written = [
        record
        for record in records
        if isinstance(record, TradeBatch) and record.symbol == SYMBOL and not record.producer
    ]
    firsts = {record.first for record in written}
    ends = [
        known.first + len(known.trades)
        for known in own
        if known.first in firsts and known in written
    ]
    states = [
        _counted(record)
        for record in records
        if isinstance(record, CandleState) and record.symbol == SYMBOL
    ]
    return max([*ends, *states], default=0)


def _counted(state: CandleState) -> int:
    """Return how many trades a state has had from the first one on, without a gap."""
    own = [count.ranges for count in state.counts if not (count.producer or count.run)]
    if not state.counts:
        return state.next  # of a version that knew no gaps
    return own[0][1] if own and own[0] and own[0][0] == 0 else 0
