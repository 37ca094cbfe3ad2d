"""Apply a batch of messages to portfolios, and collect the events that follow. Pure.

Returns, limits, acknowledgements and requests of books arrive as messages; alerts, measures,
returns for books, tallies and dead letters are collected. `stream_processors.agents.risk` sends
them.
"""

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import groupby
from math import isfinite
from operator import attrgetter

from kafka_io.dead_letters import Message, dead_letter, log_time_us
from schemas.events import (
    AlertAck,
    DeadLetter,
    DeadLetterReason,
    EntityType,
    Event,
    MovedPrice,
    Return,
    ReturnBatch,
    ReturnOutcome,
    RiskAlert,
    RiskLimits,
    Scenario,
    SeriesReturns,
    SeriesWanted,
    WindowTally,
)
from schemas.instants import EARLIEST_US, LATEST_US
from schemas.keys import encode_key
from schemas.topics import (
    PORTFOLIO_RETURNS,
    RISK_ACKS,
    RISK_LIMITS,
    RISK_SCENARIOS,
    RISK_STATE,
    TopicPartition,
)
from stream_processors.messages import Admitted, recorded_us, tenant_of
from stream_processors.risk.alert_events import is_closed, open_alert
from stream_processors.risk.config import RiskConfig
from stream_processors.risk.past_returns import PastReturns
from stream_processors.risk.portfolio import (
    ArrivedReturn,
    PortfolioRisk,
    ReturnOffset,
    Together,
)
from stream_processors.risk.thresholds import InvalidRule
from stream_processors.stress import Scenarios
from stream_processors.windowing.tallies import WindowCounter, gauge_tally

ORDERED = (RISK_LIMITS, RISK_ACKS, RISK_SCENARIOS, PORTFOLIO_RETURNS)
"""A return is judged by the limits, acknowledgements and scenarios that were written before it; of
equal times, this is the order."""

_ACCEPTED = ReturnOutcome.ACCEPTED
_REFUSED = (ReturnOutcome.REJECTED, ReturnOutcome.FUTURE)
_CALM_MIN = 3
"""The fewest returns of a portfolio for which it pays to look whether they are calm."""
_SERIES_RETURNS_MAX = 5_000
"""The most returns in one record for books, which makes some 200 KB."""


class RiskBatch:
    """The portfolios that a batch of messages changes, and the events that follow."""

    def __init__(
        self,
        portfolios: dict[bytes, PortfolioRisk],
        config: RiskConfig,
        returns_topic: str,
        window_us: int,
        scenarios: Scenarios | None = None,
    ) -> None:
        """Start an empty batch.

        Args:
            portfolios: by key; the batch changes them, and adds new ones.
            config: how they are measured and judged.
            returns_topic: the full name of the topic of returns.
            window_us: the length of the dashboard's narrowest window.
            scenarios: the stress scenarios in force; the batch changes them.
        """
        self._portfolios = portfolios
        self._scenarios = scenarios or Scenarios()
        self.changed_scenarios: dict[tuple[str | None, str], Scenario] = {}
        """The scenarios that it has changed, by tenant and name."""
        self._config = config
        self._returns_topic = returns_topic
        self._counter = WindowCounter(window_us)
        self._measured: Counter[tuple[int, str | None]] = Counter()
        """The number of measures, by partition and tenant."""
        self.changed: dict[bytes, PortfolioRisk] = {}
        """The portfolios that it has changed, by key."""
        self._known: defaultdict[str | None, dict[str, PortfolioRisk]] = defaultdict(dict)
        """The portfolios that got returns, by tenant and name: keys take time to encode."""
        self.alerts: list[tuple[RiskAlert, str | None]] = []
        """The alerts, each with its tenant."""
        self.dead_letters: list[tuple[DeadLetter, str | None]] = []
        """The dead letters, each with its tenant."""
        self._series: defaultdict[tuple[str, str | None, int], list[Return]] = defaultdict(list)
        """The returns for trees of books, by root, tenant and lap."""
        self._earlier: defaultdict[tuple[str, str | None, int], set[str]] = defaultdict(set)
        """The series that have earlier returns than those in a first window, in the same order."""
        self._moved: defaultdict[tuple[str, str | None, int], list[MovedPrice]] = defaultdict(list)
        """How far earlier returns moved prices, in the same order."""
        self._anew: defaultdict[tuple[str, str | None, int], set[str]] = defaultdict(set)
        """The series that begin anew with their first window, in the same order."""
        self._rebuilt: defaultdict[tuple[str, str | None, int], list[str]] = defaultdict(list)
        """The series whose past was rebuilt, in the same order."""

    def apply(self, message: Admitted, past: PastReturns | None = None) -> None:
        """Apply one message.

        Args:
            message: the message.
            past: the returns that the window of `missing_from` lacks, for such a message.
        """
        record = message.record
        if isinstance(record, ReturnBatch):
            self.apply_returns([message])
            return
        match record:
            case RiskLimits(entity_type=EntityType.BOOK) | AlertAck(entity_type=EntityType.BOOK):
                return  # the processor of books reads it
            case RiskLimits():
                self._apply_limits(message, record)
            case AlertAck():
                risk = self._risk_of(record.entity_id, message)
                log_us = log_time_us(message)
                self._add_alerts(risk, risk.acknowledge(record, message.offset, log_us))
            case Scenario():
                self._apply_scenario(message, record)
            case SeriesWanted():
                self._apply_series_request(message, record, past)
            case _:
                raise AssertionError(f"no portfolio has a {type(record).__name__}")

    def tick(self, now_us: int) -> None:
        """Do what is due at a time: alerts about missing measures, ends of temporary limits."""
        for risk in self._portfolios.values():
            self._tick(risk, now_us)

    def _tick(self, risk: PortfolioRisk, now_us: int) -> None:
        if now_us >= risk.due_us:
            self.changed[risk.key] = risk
            self._add_alerts(risk, risk.tick(now_us))

    def unknown_alerts(self, others: Mapping[bytes, PortfolioRisk]) -> Mapping[bytes, set[str]]:
        """Return the ids of open alerts that are not open in other portfolios, by portfolio."""
        unknown = {}
        for key, risk in self._portfolios.items():
            known = others[key].open_alert_ids if key in others else frozenset()
            ids = risk.open_alert_ids - known
            if ids:
                unknown[key] = set(ids)
        return unknown

    def take_over(
        self,
        others: Mapping[bytes, PortfolioRisk],
        sent: Mapping[bytes, Mapping[str, int]],
        version: str = "",
    ) -> None:
        """Let this batch's portfolios, which were rebuilt, replace the present ones.

        The present portfolios have read the messages of this batch before, so these were counted
        and refused then. Every measure is published again; events tell how alerts differ.

        Args:
            others: the present portfolios, by key.
            sent: how many transitions clients have had of each of `unknown_alerts`.
            version: the name of the rebuild.
        """
        self.dead_letters.clear()
        self.changed_scenarios.clear()
        self._counter.clear()
        self._series.clear()
        self._moved.clear()
        self.alerts.clear()
        for key, risk in self._portfolios.items():
            self.changed[key] = risk
            self._add_alerts(risk, risk.take_over(others.get(key), sent.get(key, {}), version))
            for root in risk.wanted_by:
                self._rebuilt[root, risk.tenant, risk.lap].append(risk.portfolio_id)

    def events(self) -> Iterable[tuple[Event, str | None]]:
        """Yield all events in the order in which they are written, each with its tenant."""
        yield from self.dead_letters
        yield from self.alerts
        yield from self.open_alerts()
        yield from self.measures()
        yield from self.series_returns()
        yield from ((tally, tally.tenant) for tally in self.tallies())

    def open_alerts(self) -> Iterable[tuple[Event, str | None]]:
        """Return the row of each alert of this batch that is open after it."""
        return [
            (open_alert(alert, tenant), tenant)
            for alert, tenant in self._last_alerts()
            if not is_closed(alert)
        ]

    def closed_alerts(self) -> list[bytes]:
        """Return the keys of the alerts of this batch that are over after it."""
        return [
            encode_key(alert.alert_id, tenant)
            for alert, tenant in self._last_alerts()
            if is_closed(alert)
        ]

    def _last_alerts(self) -> Iterable[tuple[RiskAlert, str | None]]:
        """Return the last event of each alert of this batch, with its tenant."""
        last = {(alert.alert_id, tenant): alert for alert, tenant in self.alerts}
        return [(alert, tenant) for (_, tenant), alert in last.items()]

    def measures(self) -> Iterable[tuple[Event, str | None]]:
        """Yield the last measure of each portfolio that changed."""
        for risk in self.changed.values():
            measure = risk.measure_event()
            if measure is not None:
                self._measured[risk.source.partition, risk.tenant] += 1
                yield measure, risk.tenant

    def series_returns(self) -> Iterable[tuple[Event, str | None]]:
        """Yield the returns for trees of books, by tree."""
        for (root, tenant, lap), returns in self._series.items():
            for start in range(0, len(returns), _SERIES_RETURNS_MAX):
                part = returns[start : start + _SERIES_RETURNS_MAX]
                series = {observation.portfolio_id for observation in part}
                earlier = sorted(series & self._earlier[root, tenant, lap])
                self._earlier[root, tenant, lap] -= series
                is_last = start + _SERIES_RETURNS_MAX >= len(returns)
                moved = self._moved.pop((root, tenant, lap), ()) if is_last else ()
                anew = sorted(series & self._anew[root, tenant, lap])
                self._anew[root, tenant, lap] -= series
                record = SeriesReturns(
                    root=root, returns=part, lap=lap, earlier=earlier, moved=moved, anew=anew
                )
                yield record, tenant
        for (root, tenant, lap), rebuilt in self._rebuilt.items():
            yield SeriesReturns(root=root, returns=(), lap=lap, rebuilt=sorted(rebuilt)), tenant

    def tallies(self) -> Iterable[WindowTally]:
        """Return the number of returns and measures in each window; call `measures` before."""
        for (partition, tenant), count in self._measured.items():
            source = TopicPartition(self._returns_topic, partition)
            self._counter.add_to_newest(source, tenant, "risk_measures", count)
        return self._counter.tallies()

    def _apply_limits(self, message: Message, limits: RiskLimits) -> None:
        risk = self._risk_of(limits.portfolio_id, message)
        try:
            self._add_alerts(risk, risk.set_limits(limits, message.offset, log_time_us(message)))
        except InvalidRule as error:
            letter = dead_letter(message, DeadLetterReason.INVALID, str(error))
            self.dead_letters.append((letter, risk.tenant))

    def _apply_scenario(self, message: Message, scenario: Scenario) -> None:
        tenant, name = tenant_of(message), scenario.name
        if not self._scenarios.put(scenario, tenant):
            return
        self.changed_scenarios[tenant, name] = scenario
        tests, log_us = self._scenarios.tests_of(tenant), log_time_us(message)
        for risk in self._portfolios.values():
            if risk.tenant == tenant:
                self._tick(risk, log_us)  # such as the end of a temporary limit before it
                alerts = risk.change_stress(tests, name, scenario.version)
                if alerts is not None:
                    self.changed[risk.key] = risk
                    self._add_alerts(risk, alerts)

    def missing_from(self, message: Admitted) -> tuple[PortfolioRisk, int] | None:
        """Return a portfolio and the time after which a message needs returns that it lacks.

        None if the message needs none: it is no request, or all returns after the prices that it
        names are in the window.
        """
        request = message.record
        if not isinstance(request, SeriesWanted) or not request.wanted or not request.prices:
            return None
        risk = self._portfolios.get(encode_key(request.series_id, tenant_of(message)))
        first_us = None if risk is None else risk.first_us
        if risk is None or first_us is None:
            return None
        lacking = [
            price.priced_us
            for price in request.prices
            if price.until_us is not None
            or (price.priced_us < first_us - 1 and risk.has_earlier_returns)
        ]
        if not lacking:
            return None
        return risk, min(*lacking, first_us - 1, risk.correctable_from_us - 1)

    def _apply_series_request(
        self, message: Message, request: SeriesWanted, past: PastReturns | None
    ) -> None:
        risk = self._risk_of(request.series_id, message)
        if request.wanted:
            risk.wanted_by.add(request.root)
            key = request.root, risk.tenant, risk.lap
            returns = risk.returns
            if past is not None:
                returns = [*past.correctable_before(returns[0].event_time_us), *returns]
                until_us = returns[0].event_time_us - 1
                self._moved[key] += [past.move(price, until_us) for price in request.prices]
            self._series[key] += returns
            if risk.has_earlier_returns:
                self._earlier[key].add(risk.portfolio_id)
            if request.anew:
                self._anew[key].add(risk.portfolio_id)
        else:
            risk.wanted_by.discard(request.root)

    def apply_returns(self, messages: Sequence[Admitted]) -> None:
        """Apply messages with returns, to the same result as one after the other.

        Messages without headers, as nearly all are, are of no tenant, and are applied together.
        """
        for (is_bare, _), alike in groupby(messages, _form_and_lap):
            if is_bare:
                self._apply_together(list(alike))
            else:
                for message in alike:
                    self._apply_together([message])

    def _apply_together(self, messages: Sequence[Admitted]) -> None:
        """Apply returns of one partition, tenant and lap, portfolio by portfolio.

        Portfolios do not depend on each other. Alerts, dead letters and returns for books are put
        in the order in which the returns arrived.
        """
        first, log_us = messages[0], _log_times_us(messages)
        assert isinstance(first.record, ReturnBatch)
        offsets = [message.offset for message in messages]
        latest_us = self._latest_us(min(log_us))
        together = Together(offsets, log_us, first.record.lap, latest_us, max(log_us))
        found = _Found(tenant_of(first), messages)
        portfolios = self._known[found.tenant]
        for portfolio_id, returns in _by_portfolio(messages).items():
            risk = portfolios.get(portfolio_id)
            if risk is None:
                risk = self._known_or_new(portfolio_id, first)
                portfolios[portfolio_id] = risk
            self._apply_to(risk, returns, together, found)
        self.alerts += [alert for _, alert in sorted(found.alerts, key=_place)]
        self.dead_letters += [letter for _, letter in sorted(found.letters, key=_place)]
        for _, (risk, observation) in sorted(found.forwarded, key=_place):
            self._forward_to_books(risk, observation)
        self._tally(found)

    def _apply_to(
        self,
        risk: PortfolioRisk,
        returns: Sequence[ArrivedReturn],
        together: Together,
        found: "_Found",
    ) -> None:
        """Apply returns of one portfolio."""
        done = 0
        while done < len(returns):
            is_many = len(returns) - done >= _CALM_MIN
            calm = risk.apply_calm(returns, done, together) if is_many else 0
            if calm:
                self.changed[risk.key] = risk
                if risk.wanted_by:
                    found.forward(risk, returns[done : done + calm])
                done += calm
            else:
                self._apply_one(risk, returns[done], together, found)
                done += 1

    def _apply_one(
        self, risk: PortfolioRisk, arrived: ArrivedReturn, together: Together, found: "_Found"
    ) -> None:
        observation, number, index = arrived
        place, log_us, lap = (number, index), together.log_us[number], together.lap
        position, latest_us = ReturnOffset(together.offsets[number], index), self._latest_us(log_us)
        outcome, alerts = risk.apply(observation, position, latest_us, lap, log_us)
        if outcome is None:
            found.repeats[number] += 1
            return
        if outcome is not _ACCEPTED:
            found.others[number][outcome] += 1
            if outcome in _REFUSED:
                letter = _refused_return(found.messages[number], index, observation, latest_us)
                found.letters.append((place, (letter, found.tenant)))
        if risk.wanted_by and risk.moves_prices(observation, outcome, lap):
            found.forward(risk, [arrived])
        self.changed[risk.key] = risk
        found.alerts += [(place, (alert, found.tenant)) for alert in alerts]

    def _tally(self, found: "_Found") -> None:
        """Count the returns that were not applied before, and those that were not accepted."""
        counted = [(number, count) for number, count in found.new() if count]
        for _, group in groupby(counted, lambda pair: found.messages[pair[0]].timestamp):
            alike = list(group)
            first, last = found.messages[alike[0][0]], found.messages[alike[-1][0]]
            source = TopicPartition(first.topic, first.partition)
            at = source, found.tenant, first.offset, recorded_us(first)
            self._counter.add(*at, "returns", sum(count for _, count in alike))
            for number, _ in alike if found.others else ():
                for outcome, count in found.others[number].items():
                    self._counter.add(*at, f"returns_{outcome}", count)
            self._counter.extend_to(source, found.tenant, last.offset, recorded_us(first))

    def _latest_us(self, log_us: int) -> float:
        """Return the latest event time that is accepted of a return that the log got at a time."""
        return min(log_us + self._config.ahead_us, LATEST_US)

    def _forward_to_books(self, risk: PortfolioRisk, observation: Return) -> None:
        for root in risk.wanted_by:
            self._series[root, risk.tenant, risk.lap].append(observation)

    def _risk_of(self, portfolio_id: str, message: Message) -> PortfolioRisk:
        """Return a portfolio of a message's tenant, which the message changes."""
        risk = self._known_or_new(portfolio_id, message)
        self.changed[risk.key] = risk
        return risk

    def _known_or_new(self, portfolio_id: str, message: Message) -> PortfolioRisk:
        tenant = tenant_of(message)
        key = encode_key(portfolio_id, tenant)
        risk = self._portfolios.get(key)
        if risk is None:
            source = TopicPartition(self._returns_topic, message.partition)
            risk = PortfolioRisk(portfolio_id, self._config, source, tenant)
            risk.set_stress(self._scenarios.tests_of(tenant))
            self._portfolios[key] = self.changed[key] = risk
        return risk

    def _add_alerts(self, risk: PortfolioRisk, alerts: Iterable[RiskAlert]) -> None:
        self.alerts += [(alert, risk.tenant) for alert in alerts]


def gauges_of(portfolios: Iterable[PortfolioRisk], partitions: Container[int]) -> list[WindowTally]:
    """Return the gauges of the portfolios in some partitions, by partition and tenant.

    They are the number of portfolios, of those over their limit and of open alerts by severity;
    with them come the highest utilisations.
    """
    found: dict[tuple[int, str | None], tuple[Counter[str], dict[str, float]]] = {}
    for risk in portfolios:
        partition = risk.source.partition
        if partition not in partitions:
            continue
        key = partition, risk.tenant
        gauges, utilisations = found.setdefault(key, (Counter(portfolios_over_limit=0), {}))
        gauges["portfolios"] += 1
        utilisation = risk.utilisation
        if utilisation is not None:
            utilisations[risk.portfolio_id] = utilisation
            gauges["portfolios_over_limit"] += utilisation > 1
        gauges.update(f"alerts_open_{severity}" for severity, _ in risk.open_alerts())
    return [
        gauge_tally(TopicPartition(RISK_STATE.name, partition), tenant, gauges, utilisations)
        for (partition, tenant), (gauges, utilisations) in found.items()
    ]


Place = tuple[int, int]
"""The number of a message among those that are applied together, and an index of its returns."""


class _Found:
    """The results of returns that are applied together, with the places of these returns."""

    def __init__(self, tenant: str | None, messages: Sequence[Admitted]) -> None:
        self.tenant = tenant
        self.messages = messages
        self.alerts: list[tuple[Place, tuple[RiskAlert, str | None]]] = []
        self.letters: list[tuple[Place, tuple[DeadLetter, str | None]]] = []
        self.forwarded: list[tuple[Place, tuple[PortfolioRisk, Return]]] = []
        """The returns that books need."""
        self.repeats: Counter[int] = Counter()
        """The number of returns that were applied before, by message."""
        self.others: defaultdict[int, Counter[ReturnOutcome]] = defaultdict(Counter)
        """The number of returns that were not accepted, by message and outcome."""

    def forward(self, risk: PortfolioRisk, returns: Iterable[ArrivedReturn]) -> None:
        """Note that books need returns."""
        self.forwarded += [
            ((number, index), (risk, observation)) for observation, number, index in returns
        ]

    def new(self) -> Iterable[tuple[int, int]]:
        """Yield each message's number, and how many of its returns were not applied before."""
        for number, message in enumerate(self.messages):
            batch, left_out = message.record, message.left_out
            assert isinstance(batch, ReturnBatch)
            count = len(batch.returns)
            if left_out:
                count = sum(value.portfolio_id not in left_out for value in batch.returns)
            yield number, count - self.repeats.get(number, 0)


def _by_portfolio(messages: Iterable[Admitted]) -> Mapping[str, Sequence[ArrivedReturn]]:
    """Return the returns of messages by portfolio, in the order of their arrival."""
    found: defaultdict[str, list[ArrivedReturn]] = defaultdict(list)
    for number, message in enumerate(messages):
        batch, left_out = message.record, message.left_out
        assert isinstance(batch, ReturnBatch)
        for index, observation in enumerate(batch.returns):
            if not left_out or observation.portfolio_id not in left_out:
                found[observation.portfolio_id].append((observation, number, index))
    return found


def _log_times_us(messages: Iterable[Admitted]) -> Sequence[int]:
    """Return when the log got messages; those that a producer sent together have one time."""
    found: list[int] = []
    for _, alike in groupby(messages, attrgetter("timestamp")):
        first, *others = alike
        found += [log_time_us(first)] * (1 + len(others))
    return found


def _form_and_lap(message: Admitted) -> tuple[bool, int]:
    """Return whether a message has neither headers nor left-outs, and the lap of its returns."""
    assert isinstance(message.record, ReturnBatch)
    return not (message.headers or message.left_out), message.record.lap


def _place(found: tuple[Place, object]) -> Place:
    return found[0]


def _refused_return(
    message: Message, index: int, observation: Return, latest_us: float
) -> DeadLetter:
    portfolio_id, time_us, value, _ = observation
    error = f"the return of {portfolio_id} is {value}; it must be a finite number"
    if isfinite(value):
        error = (
            f"the return of {portfolio_id} has the time {time_us}, in microseconds since 1970 UTC; "
            f"it must be from {EARLIEST_US} to {int(latest_us)}"
        )
    return dead_letter(message, DeadLetterReason.INVALID, error, index=index)
