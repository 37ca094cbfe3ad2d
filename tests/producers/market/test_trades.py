import asyncio
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from infra.settings import InfraSettings
from infra.trades_package import trades_jar
from kafka_io.settings import ProducerSettings
from producers.errors import NoTrades
from producers.market import trades as market
from producers.market.trades import SYMBOL, _next, batches, count_trades, read_trades
from schemas.events import CandleState, Trade, TradeBatch, TradeCount

NUMBER_MAX = 1 << 40
"""The largest number of a trade that processors take."""


def test_batches_hold_every_trade_in_order_and_bring_time_to_the_end_of_the_last_minute() -> None:
    trades = list(read_trades(trades_jar(InfraSettings().maven_url)))
    sent = list(batches(iter(trades)))
    assert [trade for batch in sent for trade in batch.trades] == trades
    assert [batch.first for batch in sent] == list(range(0, len(trades), 500))
    for batch, following in pairwise(sent):
        assert batch.watermark_us <= following.trades[0].time_us
    assert sent[-1].watermark_us > trades[-1].time_us
    assert sent[-1].watermark_us % 60_000_000 == 0


def test_another_file_than_the_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoTrades, match=r"nothing\.jar has no trades"):
        list(read_trades(tmp_path / "nothing.jar"))
    other = tmp_path / "other.jar"
    with zipfile.ZipFile(other, "w") as package:
        package.writestr("bitstamp_trades_from_20131125_usd.csv", "timestamp,price\nx,1\n")
    with pytest.raises(NoTrades, match=r"other\.jar has no trades"):
        list(read_trades(other))
    with pytest.raises(NoTrades, match=r"nothing\.jar has no trades"):
        count_trades(tmp_path / "nothing.jar")


async def test_trades_that_a_state_counts_to_the_last_are_not_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jar = trades_jar(InfraSettings().maven_url)
    count = count_trades(jar)
    assert count == sum(1 for _ in read_trades(jar))

    async def read_table(*_: object) -> dict[bytes, CandleState]:
        return {b"": CandleState(symbol=SYMBOL, next=count, watermark_us=0, forming=[])}

    async def read_newest(*_: object, **__: object) -> list[TradeBatch]:
        raise AssertionError("the batches were read")

    monkeypatch.setattr(market, "read_table", read_table)
    monkeypatch.setattr(market, "read_newest", read_newest)
    stop = asyncio.Event()
    stop.set()
    await market.run(ProducerSettings(), jar, stop)
    count -= 1
    with pytest.raises(AssertionError, match="were read"):
        await market.run(ProducerSettings(), jar, stop)


def test_trades_of_others_in_the_partition_do_not_begin_the_replay_again() -> None:
    trade = Trade(time_us=0, price=1.0, amount=1.0)
    ours = TradeBatch(symbol=SYMBOL, first=500, trades=[trade] * 3, watermark_us=0)
    own = [replace(ours, first=0), ours, replace(ours, first=503)]
    other = TradeBatch(symbol="ETH-USD", first=10**9, trades=[trade], watermark_us=0)
    namesake = TradeBatch(
        symbol=SYMBOL, first=10**9, trades=[trade], watermark_us=0, producer="of others"
    )
    another_run = TradeBatch(
        symbol=SYMBOL, first=10**9, trades=[trade], watermark_us=0, run="of others"
    )
    assert _next([ours, other, namesake, another_run], own) == 503
    state = CandleState(symbol=SYMBOL, next=1_000, watermark_us=0, forming=[])
    assert _next([other, namesake, state], own) == 1_000
    assert _next([other], own) == 0


@pytest.mark.parametrize("first", [500, 503, NUMBER_MAX - 3, 2**62])
def test_trades_that_others_wrote_as_ours_end_no_replay(first: int) -> None:
    trade = Trade(time_us=0, price=1.0, amount=1.0)
    ours = TradeBatch(symbol=SYMBOL, first=500, trades=[trade] * 3, watermark_us=0)
    own = [replace(ours, first=0), ours, replace(ours, first=503)]
    forged = TradeBatch(
        symbol=SYMBOL, first=first, trades=[replace(trade, price=2.0)] * 3, watermark_us=0
    )
    assert _next([forged], own) == 0
    assert _next([forged, ours, forged], own) == 503
    counts = [TradeCount(producer="", ranges=[0, 500, first, first + 3], latest_us=0)]
    state = CandleState(symbol=SYMBOL, next=first + 3, watermark_us=0, forming=[], counts=counts)
    assert _next([forged, state], own) == 500
