"""The rules that watch a portfolio: its limits as rules, and the rule on its VaR model. Pure."""

from collections.abc import Mapping, Sequence
from math import isfinite

from schemas.events import AlertType, BookMetric, Metric, RiskLimit
from schemas.vocabularies import STRESS_LOSS, STRESS_LOSS_AMOUNT
from stream_processors.risk.measures import VAR_99
from stream_processors.risk.model_tests import most_before_red
from stream_processors.risk.thresholds import InvalidRule, Rule

METRICS: Mapping[str, tuple[str, AlertType]] = {
    Metric.VAR_95: ("VaR", AlertType.VAR_EXCEEDED),
    Metric.ES_95: ("ES", AlertType.ES_EXCEEDED),
    Metric.VAR_99: ("VaR", AlertType.VAR_EXCEEDED),
    Metric.ES_99: ("ES", AlertType.ES_EXCEEDED),
}
"""The metrics that a limit can be on: their name in messages, and the type of their alerts."""

BOOK_METRICS: Mapping[str, tuple[str, AlertType]] = {
    **METRICS,
    BookMetric.VAR_95_AMOUNT: ("VaR", AlertType.VAR_EXCEEDED),
    BookMetric.ES_95_AMOUNT: ("ES", AlertType.ES_EXCEEDED),
    BookMetric.VAR_99_AMOUNT: ("VaR", AlertType.VAR_EXCEEDED),
    BookMetric.ES_99_AMOUNT: ("ES", AlertType.ES_EXCEEDED),
    BookMetric.CONCENTRATION: ("Concentration", AlertType.CONCENTRATION_EXCEEDED),
}
"""The metrics that a limit of a book can be on."""

MODEL = "exceptions_99"
"""The id of the rule for the model: exceptions of the 99 % VaR in the last days."""
DAYS_JUDGED = 250
STALE = "stale"
"""The id under which missing measures are alerted."""

MODEL_RULE = Rule(MODEL, float(most_before_red(DAYS_JUDGED, VAR_99)), hysteresis=0.0)
"""Alerts when the traffic light turns red."""


def check_stale_after(stale_after_s: float | None) -> None:
    """Check the time after which missing measures are alerted.

    Raises:
        InvalidRule: it is not a finite number above 0.
    """
    if stale_after_s is not None and not (isfinite(stale_after_s) and stale_after_s > 0):
        raise InvalidRule(
            f"stale_after_s is {stale_after_s}; it must be a finite number of seconds above 0"
        )


def in_force(limits: Sequence[RiskLimit], at_us: int) -> Sequence[RiskLimit]:
    """Return limits without the temporary ones that are over at a time of the log's clock."""
    return [
        limit._replace(temporary_limit=None, valid_until_us=None, approved_by=None)
        if limit.valid_until_us is not None and limit.valid_until_us <= at_us
        else limit
        for limit in limits
    ]


def limits_until_us(limits: Sequence[RiskLimit]) -> Mapping[str, int]:
    """Return until when temporary limits hold, by metric."""
    return {
        limit.metric: limit.valid_until_us for limit in limits if limit.valid_until_us is not None
    }


def is_stress(rule_id: str) -> bool:
    """Return whether a metric is the loss in a stress scenario."""
    prefix, colon, scenario = rule_id.partition(":")
    return prefix + colon in (STRESS_LOSS, STRESS_LOSS_AMOUNT) and scenario != ""


def metric_of(rule_id: str) -> tuple[str, AlertType]:
    """Return the name of a metric in messages, and the type of its alerts."""
    if is_stress(rule_id):
        scenario = rule_id.partition(":")[2]
        return f"Stress loss in {scenario}", AlertType.STRESS_EXCEEDED
    return BOOK_METRICS[rule_id]


def rules_of(
    limits: Sequence[RiskLimit], metrics: Mapping[str, tuple[str, AlertType]] = METRICS
) -> tuple[Rule, ...]:
    """Convert limits to rules; a temporary limit holds instead of the other one.

    Args:
        limits: the limits.
        metrics: the metrics that they can be on.

    Raises:
        InvalidRule: a metric is unknown or named twice, or a parameter is out of its range.
    """
    rules = {}
    for limit in limits:
        is_amount = limit.metric.startswith(STRESS_LOSS_AMOUNT)
        may_be_stress = metrics is not METRICS or not is_amount
        if limit.metric not in metrics and not (may_be_stress and is_stress(limit.metric)):
            raise InvalidRule(
                f"{limit.metric!r} is no metric; there are {', '.join(metrics)}, and "
                f"{STRESS_LOSS}NAME for the loss in a stress scenario"
            )
        if limit.metric in rules:
            raise InvalidRule(f"there are two limits of {limit.metric}; give one")
        try:
            rules[limit.metric] = Rule(
                rule_id=limit.metric,
                limit=_limit_of(limit),
                hysteresis=limit.hysteresis,
                warn_ratio=limit.warn_ratio,
                critical_ratio=limit.critical_ratio,
                raise_after=limit.raise_after,
                clear_after=limit.clear_after,
            )
        except InvalidRule as error:
            raise InvalidRule(f"of {limit.metric}: {error}") from error
    return tuple(rules.values())


def _limit_of(limit: RiskLimit) -> float:
    """Return the limit that holds.

    Raises:
        InvalidRule: the temporary limit is not above the other one, or lacks its end or approver.
    """
    temporary = limit.temporary_limit
    parts = (temporary, limit.valid_until_us, limit.approved_by or None)
    if temporary is None or None in parts:
        if any(part is not None for part in parts):
            raise InvalidRule(
                "a temporary limit needs all of temporary_limit, valid_until_us and approved_by"
            )
        return limit.limit
    if not (isfinite(temporary) and temporary > limit.limit > 0):
        raise InvalidRule(
            f"temporary_limit is {temporary}; it must be a finite number above the limit, "
            f"{limit.limit}"
        )
    return temporary
