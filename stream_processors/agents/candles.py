"""The agent that forms candles from trades."""

from typing import Any

import faust

from schemas.events import CandleState, DeadLetter, Event, TradeBatch
from schemas.topics import MARKET_FORMING, MARKET_TRADES
from stream_processors.faust_adapter import States, Writer
from stream_processors.messages import dead_letter, decoded
from stream_processors.windowing.candles import SymbolCandles

_TRADE_BATCHES_MAX = 20


def add_candles(app: faust.App, writer: Writer) -> None:
    """Add the forming of candles to a worker."""
    symbols: dict[str, SymbolCandles] = {}
    states = States(app, writer, MARKET_FORMING)

    async def recover() -> None:
        symbols.clear()
        for _, state in states.recovered(CandleState):
            symbols[state.symbol] = SymbolCandles(state.symbol, state)

    states.on_recover(recover)

    @app.agent(writer.topic(MARKET_TRADES), name="form_candles")
    async def form_candles(stream: Any) -> None:
        async for events in stream.noack_take(_TRADE_BATCHES_MAX, within=0.02):
            changed: dict[bytes, tuple[int, SymbolCandles]] = {}
            told: list[Event] = []
            for event in events:
                batch = decoded(event.message, TradeBatch)
                if isinstance(batch, DeadLetter):
                    told.append(batch)
                    continue
                symbol = symbols.setdefault(batch.symbol, SymbolCandles(batch.symbol))
                taken = symbol.take(batch)
                told += taken.closed
                told += [
                    dead_letter(event.message, one.reason, one.error, index=one.index)
                    for one in taken.refused
                ]
                changed[batch.symbol.encode()] = event.message.partition, symbol
            await writer.send_all(told)
            await states.keep(
                {key: (home, symbol.pack()) for key, (home, symbol) in changed.items()}
            )
            for event in events:
                await stream.ack(event)
