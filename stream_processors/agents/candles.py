"""The processor that forms candles: batches of trades in, closed candles out.

Candles that are still forming are kept in `market.forming`, one row for each symbol.
"""

from collections.abc import Mapping, Sequence

from kafka_io.dead_letters import dead_letter, log_time_us
from schemas.events import CandleState, Record, TradeBatch
from schemas.keys import encode_key
from schemas.topics import MARKET_FORMING, MARKET_TRADES
from stream_processors.messages import Admitted, tenant_of
from stream_processors.processor import Processor, Round, Rows, restored
from stream_processors.settings import ProcessorSettings
from stream_processors.windowing.candles import AHEAD_US, SymbolCandles


class Candles(Processor):
    """Forms the candles of all symbols."""

    def __init__(self, settings: ProcessorSettings | None = None) -> None:
        """Form candles as the settings say; None for their defaults."""
        super().__init__("form_candles", (MARKET_TRADES,), (MARKET_FORMING,))
        self._ahead_us = AHEAD_US if settings is None else settings.ahead_us()
        self._symbols: dict[int, dict[bytes, SymbolCandles]] = {}
        """By partition number and key."""
        self._changed: dict[int, set[bytes]] = {}

    def recover(self, number: int, rows: Rows, row_limits: Mapping[str, int]) -> None:
        """Replace the symbols of a partition number."""
        del row_limits
        self._changed[number] = set()
        self._symbols[number] = restored(MARKET_FORMING, rows[MARKET_FORMING.name], self._restore)

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
            tenant = tenant_of(message)
            key = encode_key(batch.symbol, tenant)
            symbol = symbols.get(key)
            if symbol is None:
                symbol = symbols[key] = self._candles_of(batch.symbol, tenant)
            changes = symbol.apply(batch, log_time_us(message))
            for candle in changes.closed:
                this_round.send(candle, tenant)
            for refused in changes.refused:
                letter = dead_letter(message, refused.reason, refused.error, index=refused.index)
                this_round.send(letter, tenant)
            self._changed[this_round.number].add(key)

    def _candles_of(
        self, symbol: str, tenant: str | None, state: CandleState | None = None
    ) -> SymbolCandles:
        return SymbolCandles(symbol, state, ahead_us=self._ahead_us, tenant=tenant)

    def _restore(self, state: Record) -> tuple[bytes, SymbolCandles] | None:
        if not isinstance(state, CandleState):
            return None
        key = encode_key(state.symbol, state.tenant)
        return key, self._candles_of(state.symbol, state.tenant, state)

    async def finish(self, this_round: Round) -> None:
        """Write the candles that are forming."""
        changed, self._changed[this_round.number] = self._changed[this_round.number], set()
        for key in sorted(changed):
            this_round.put(MARKET_FORMING, key, self._symbols[this_round.number][key].pack())
