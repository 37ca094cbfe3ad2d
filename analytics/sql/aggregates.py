"""The aggregates: each a query over facts, which are rows of events with the aggregate's keys.

A row of an aggregate depends on the facts of its keys alone, and an event adds facts and takes none
away. So new events change only the rows of their own keys, and an aggregate that computes these
rows again is equal to its query over all events.

No aggregate sums floating-point numbers, whose sum depends on their order.
"""

from collections.abc import Mapping
from dataclasses import dataclass

_PLACE = "_ingested_at, _epoch, _partition, _offset"
_NEWEST = "_ingested_at DESC, _epoch DESC, _partition DESC, _offset DESC"
_UTC_DAY = "CAST({} AT TIME ZONE 'UTC' AS DATE)"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A table that is computed of events."""

    name: str
    description: str
    bases: tuple[str, ...]
    """The tables of the events."""
    keys: tuple[str, ...]
    """The columns by which its rows differ."""
    facts: str
    """SQL that selects the facts; `{risk_alert}` stands for what the rows of a table come from."""
    query: str
    """SQL that computes the rows of `facts`."""
    time: str | None = None
    """The column of the facts with a time that belongs to their day, if a key is `day`."""

    def batch_query(self, relations: Mapping[str, str], condition: str = "TRUE") -> str:
        """Return the SQL that computes the aggregate at once.

        Args:
            relations: what the rows of each table come from.
            condition: which facts are taken, as SQL.
        """
        return (
            f"WITH facts AS (SELECT * FROM ({self.facts_of(relations)}) WHERE {condition}) "
            f"{self.query}"
        )

    def facts_of(self, relations: Mapping[str, str]) -> str:
        """Return the SQL that selects the facts of rows."""
        return self.facts.format_map(relations)


def _test_at(confidence: float, field: str) -> str:
    """Return the SQL of a field of a measure's test of its model at a confidence."""
    return (
        f"list_filter(model_backtests, lambda test: abs(test.confidence - {confidence}) < 1e-9)"
        f"[1].{field}"
    )


def _ohlc(measure: str) -> str:
    return (
        f"arg_min({measure}, moment) FILTER ({measure} IS NOT NULL) AS {measure}_open, "
        f"max({measure}) AS {measure}_high, min({measure}) AS {measure}_low, "
        f"arg_max({measure}, moment) FILTER ({measure} IS NOT NULL) AS {measure}_close"
    )


DAILY_RISK = Aggregate(
    "daily_risk",
    "VaR, utilisation and exceptions of a portfolio or book on a day, as open, high, low and close",
    ("risk_measure", "book_risk", "risk_alert"),
    ("_tenant", "entity_type", "entity_id", "day"),
    f"""
    SELECT _tenant, 'portfolio' AS entity_type, portfolio_id AS entity_id,
        {_UTC_DAY.format("as_of_us")} AS day, as_of_us AS moment, 'risk' AS fact, NULL AS name,
        status, var_95, var_99, es_95, threshold, utilisation, supersedes,
        {_test_at(0.95, "exceptions")} AS exceptions_95,
        {_test_at(0.99, "exceptions")} AS exceptions_99,
        {_test_at(0.95, "observations")} AS days_95,
        NULL AS alert_state, NULL AS alert_utilisation, {_PLACE}
    FROM {{risk_measure}}
    UNION ALL BY NAME
    SELECT _tenant, 'book' AS entity_type, root || '/' || book_id AS entity_id,
        {_UTC_DAY.format("as_of_us")} AS day, as_of_us AS moment, 'risk' AS fact,
        status, var_95, var_99, es_95, supersedes, {_PLACE}
    FROM {{book_risk}}
    UNION ALL BY NAME
    SELECT _tenant, entity_type, entity_id, {_UTC_DAY.format("event_time_us")} AS day,
        event_time_us AS moment, 'alert' AS fact, transition_id AS name, state AS alert_state,
        utilisation AS alert_utilisation, {_PLACE}
    FROM {{risk_alert}}
    """,
    f"""
    SELECT _tenant, entity_type, entity_id, day,
        count(*) FILTER (fact = 'risk') AS measures,
        count(*) FILTER (fact = 'risk' AND supersedes IS NOT NULL) AS corrections,
        arg_max(status, moment) FILTER (fact = 'risk') AS status,
        {_ohlc("var_95")}, {_ohlc("var_99")},
        arg_max(es_95, moment) FILTER (es_95 IS NOT NULL) AS es_95_close,
        max(utilisation) AS utilisation_high,
        arg_max(utilisation, moment) FILTER (utilisation IS NOT NULL) AS utilisation_close,
        arg_max(threshold, moment) FILTER (threshold IS NOT NULL) AS threshold_close,
        arg_max(exceptions_95, moment) FILTER (exceptions_95 IS NOT NULL) AS exceptions_95,
        arg_max(exceptions_99, moment) FILTER (exceptions_99 IS NOT NULL) AS exceptions_99,
        arg_max(days_95, moment) FILTER (days_95 IS NOT NULL) AS backtest_days,
        count(*) FILTER (alert_state = 'raised') AS alerts_raised,
        max(alert_utilisation) AS alert_utilisation_high
    FROM (
        SELECT * FROM facts QUALIFY row_number() OVER (
            PARTITION BY _tenant, entity_type, entity_id, day, fact, name,
                CASE WHEN fact = 'risk' THEN moment END
            ORDER BY {_NEWEST}
        ) = 1
    )
    GROUP BY _tenant, entity_type, entity_id, day
    """,
    "moment",
)

ALERT_STATISTICS = Aggregate(
    "alert_statistics",
    "when an alert was raised, acknowledged and cleared, and how long that took",
    ("risk_alert",),
    ("_tenant", "alert_id"),
    f"""
    SELECT _tenant, alert_id, transition_id, alert_type, state, severity, metric_name, entity_type,
        entity_id, rule_id, utilisation, acknowledged_by, event_time_us AS moment, {_PLACE}
    FROM {{risk_alert}}
    """,
    f"""
    SELECT *,
        epoch(acknowledged_at - raised_at) AS time_to_acknowledge_s,
        epoch(cleared_at - raised_at) AS time_over_limit_s,
        epoch(cleared_as_of - raised_as_of) AS observed_over_limit_s
    FROM (
        SELECT _tenant, alert_id, min(alert_type) AS alert_type, min(rule_id) AS rule_id,
            min(metric_name) AS metric_name, min(entity_type) AS entity_type,
            min(entity_id) AS entity_id,
            arg_max(severity, list_position(['low', 'medium', 'high', 'critical'], severity))
                AS severity_high,
            max(utilisation) AS utilisation_high,
            count(*) AS transitions,
            min(_ingested_at) FILTER (state = 'raised') AS raised_at,
            min(_ingested_at) FILTER (state = 'acknowledged') AS acknowledged_at,
            arg_min(acknowledged_by, (_ingested_at, _offset))
                FILTER (acknowledged_by IS NOT NULL) AS acknowledged_by,
            min(_ingested_at) FILTER (state IN ('cleared', 'stale_cleared')) AS cleared_at,
            min(moment) FILTER (state = 'raised') AS raised_as_of,
            min(moment) FILTER (state IN ('cleared', 'stale_cleared')) AS cleared_as_of
        FROM (
            SELECT * FROM facts QUALIFY row_number() OVER (
                PARTITION BY _tenant, alert_id, transition_id ORDER BY {_NEWEST}
            ) = 1
        )
        GROUP BY _tenant, alert_id
    )
    """,
)

JOB_STATISTICS = Aggregate(
    "job_statistics",
    "when a training or backtest was submitted, started and ended, with which end",
    ("training_progress", "training_command", "backtest_progress", "backtest_command"),
    ("_tenant", "kind", "job_id"),
    f"""
    SELECT _tenant, 'training' AS kind, task_id AS job_id, event_time_us AS moment, progress,
        coalesce(task.stage, status) AS step, task.attempt AS attempt,
        coalesce(task.stage = 'PENDING', FALSE) AS is_submission,
        status IN ('completed', 'failed') AS is_end, status AS end_status, {_PLACE}
    FROM {{training_progress}}
    UNION ALL BY NAME
    SELECT _tenant, 'training' AS kind, task_id AS job_id, event_time_us AS moment,
        TRUE AS is_submission, FALSE AS is_end, {_PLACE}
    FROM {{training_command}}
    UNION ALL BY NAME
    SELECT _tenant, 'backtest' AS kind, backtest_id AS job_id, event_time_us AS moment, progress,
        coalesce(job.kind, status) AS step, job.attempt AS attempt,
        coalesce(job.kind = 'submitted', FALSE) AS is_submission,
        coalesce(job.kind, status) IN ('completed', 'failed', 'cancelled') AS is_end,
        coalesce(job.kind, status) AS end_status, {_PLACE}
    FROM {{backtest_progress}}
    UNION ALL BY NAME
    SELECT _tenant, 'backtest' AS kind, job_id, event_time_us AS moment,
        TRUE AS is_submission, FALSE AS is_end, {_PLACE}
    FROM {{backtest_command}}
    """,
    """
    SELECT *,
        epoch(ended_at - started_at) AS duration_s,
        epoch(started_at - submitted_at) AS waited_s
    FROM (
        SELECT _tenant, kind, job_id,
            min(moment) FILTER (is_submission) AS submitted_at,
            min(moment) FILTER (NOT is_submission) AS started_at,
            arg_min(moment, (_ingested_at, _epoch, _partition, _offset))
                FILTER (is_end) AS ended_at,
            coalesce(
                arg_min(end_status, (_ingested_at, _epoch, _partition, _offset)) FILTER (is_end),
                arg_max(step, (_ingested_at, _epoch, _partition, _offset))
                    FILTER (step IS NOT NULL),
                'submitted'
            ) AS status,
            max(progress) AS progress,
            max(attempt) AS attempts,
            count(*) AS events
        FROM facts
        GROUP BY _tenant, kind, job_id
    )
    """,
)

AGGREGATES: tuple[Aggregate, ...] = (DAILY_RISK, ALERT_STATISTICS, JOB_STATISTICS)
"""All aggregates."""
