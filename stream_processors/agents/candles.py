"""The agent that forms candles: batches of trades in, closed candles out.

Candles that are still forming are kept in `market.forming`, one row for each symbol.
"""

from collections.abc import Sequence
from typing import Any

import faust

from schemas.events import CandleState, DeadLetter, Event, TradeBatch
from schemas.topics import MARKET_FORMING, MARKET_TRADES
from stream_processors.faust_adapter import StateTable, Writer, process_batches
from stream_processors.messages import Message, dead_letter, decode_message
from stream_processors.windowing.candles import SymbolCandles

_TRADE_BATCHES_MAX = 20


def add_candles(app: faust.App, writer: Writer) -> None:
    """Add the forming of candles to a worker."""
    symbols: dict[str, SymbolCandles] = {}
    states = StateTable(app, writer, MARKET_FORMING)

    async def recover() -> None:
        symbols.clear()
        for _, state in states.recovered(CandleState):
            symbols[state.symbol] = SymbolCandles(state.symbol, state)

    async def process(messages: Sequence[Message]) -> None:
        changed: dict[bytes, tuple[int, SymbolCandles]] = {}
        events: list[Event] = []
        for message in messages:
            batch = decode_message(message, TradeBatch)
            if isinstance(batch, DeadLetter):
                events.append(batch)
                continue
            symbol = symbols.setdefault(batch.symbol, SymbolCandles(batch.symbol))
            changes = symbol.apply(batch)
            events += changes.closed
            events += [
                dead_letter(message, refused.reason, refused.error, index=refused.index)
                for refused in changes.refused
            ]
            changed[batch.symbol.encode()] = message.partition, symbol
        await writer.send_all(events)
        await states.write(
            {key: (partition, symbol.pack()) for key, (partition, symbol) in changed.items()}
        )

    states.on_recover(recover)

    @app.agent(writer.topic(MARKET_TRADES), name="form_candles")
    async def form_candles(stream: Any) -> None:
        await process_batches(stream, process, records_max=_TRADE_BATCHES_MAX, within_s=0.02)
