"""The processor that forms candles: batches of trades in, closed candles out.

Candles that are still forming are kept in `market.forming`, one row for each symbol.
"""

from collections.abc import Mapping, Sequence

from kafka_io.dead_letters import dead_letter
from schemas.events import CandleState, Record, TradeBatch
from schemas.keys import encode_key
from schemas.topics import MARKET_FORMING, MARKET_TRADES
from stream_processors.messages import Admitted
from stream_processors.processor import Processor, Round, Rows, restored
from stream_processors.windowing.candles import SymbolCandles


class Candles(Processor):
    """Forms the candles of all symbols."""

    def __init__(self) -> None:
        super().__init__("form_candles", (MARKET_TRADES,), (MARKET_FORMING,))
        self._symbols: dict[int, dict[str, SymbolCandles]] = {}
        self._changed: dict[int, set[str]] = {}

    def recover(self, number: int, rows: Rows, row_limits: Mapping[str, int]) -> None:
        """Replace the symbols of a partition number."""
        del row_limits
        self._changed[number] = set()
        self._symbols[number] = restored(MARKET_FORMING, rows[MARKET_FORMING.name], _restore)

    def forget(self, number: int) -> None:
        """Drop the symbols of a partition number."""
        self._symbols.pop(number, None)
        self._changed.pop(number, None)

    async def process(self, messages: Sequence[Admitted], this_round: Round) -> None:
        """Add the messages' trades to their symbols' candles."""
        symbols = self._symbols[this_round.number]
        for message in messages:
            batch = message.record
            assert isinstance(batch, TradeBatch)
            symbol = symbols.setdefault(batch.symbol, SymbolCandles(batch.symbol))
            changes = symbol.apply(batch)
            for candle in changes.closed:
                this_round.send(candle)
            for refused in changes.refused:
                this_round.send(
                    dead_letter(message, refused.reason, refused.error, index=refused.index)
                )
            self._changed[this_round.number].add(batch.symbol)

    async def finish(self, this_round: Round) -> None:
        """Write the candles that are forming."""
        changed, self._changed[this_round.number] = self._changed[this_round.number], set()
        for name in sorted(changed):
            state = self._symbols[this_round.number][name].pack()
            this_round.put(MARKET_FORMING, encode_key(name), state)


def _restore(state: Record) -> tuple[str, SymbolCandles] | None:
    if not isinstance(state, CandleState):
        return None
    return state.symbol, SymbolCandles(state.symbol, state)
