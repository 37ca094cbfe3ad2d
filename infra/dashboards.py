"""The dashboards for Grafana, as data: `python -m infra.dashboards` writes their JSON.

A dashboard has rows of panels, and a panel has queries. Sizes and places follow from the order. The
files are in `infra/monitoring/dashboards`; a test holds that they are what this module gives, and
another one asks a real Prometheus each query.

This writes plain JSON, of schema version 39 (Grafana 10.1 and later): the few kinds of panels that
these dashboards have do not justify a dependency on a library for all of them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent / "monitoring" / "dashboards"
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH = 24
_HEIGHT = 8
_STAT_HEIGHT = 4


class Query(NamedTuple):
    """A query in PromQL, and the name of each of its series."""

    expr: str
    legend: str = ""


class Panel(NamedTuple):
    """A graph, or a number."""

    title: str
    queries: Sequence[Query]
    unit: str = "short"
    text: str = ""
    """A description for readers; empty for none."""
    kind: str = "timeseries"
    """`timeseries`, `stat` for one number, or `heatmap`."""


class Dashboard(NamedTuple):
    """A page of panels."""

    name: str
    title: str
    rows: Mapping[str, Sequence[Panel]]
    """Panels by the title of their row."""

    @property
    def panels(self) -> Iterable[Panel]:
        """The panels of all rows."""
        return (panel for row in self.rows.values() for panel in row)


def _panel(title: str, unit: str, *queries: tuple[str, str], text: str = "") -> Panel:
    return Panel(title, [Query(*query) for query in queries], unit, text)


def _stat(title: str, expr: str, unit: str = "short", text: str = "") -> Panel:
    return Panel(title, [Query(expr)], unit, text, "stat")


_RATE = "$__rate_interval"
_QUANTILES = (("0.5", "p50"), ("0.95", "p95"), ("0.99", "p99"))


def _quantiles(metric: str, legend: str = "", by: str = "") -> list[tuple[str, str]]:
    labels = f"{by}, le" if by else "le"
    return [
        (
            f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket[{_RATE}])))",
            f"{name} {legend}".strip(),
        )
        for share, name in _QUANTILES
    ]


def _resources(selector: str) -> Sequence[Panel]:
    """Return the panels of the resources of some parts' processes."""
    return (
        _panel(
            "Processor time",
            "percentunit",
            (
                f"rate(process_cpu_seconds_total{selector}[{_RATE}])",
                "{{component}} {{instance}}",
            ),
            text="1 is one core.",
        ),
        _panel(
            "Memory",
            "bytes",
            (f"process_resident_memory_bytes{selector}", "{{component}} {{instance}}"),
        ),
        _panel(
            "Open files",
            "short",
            (f"process_open_fds{selector}", "{{component}} {{instance}}"),
        ),
    )


_EDGE = Dashboard(
    "edge",
    "Tapewire: edge",
    {
        "Now": (
            _stat("Edges that serve", "sum(tapewire_ready)"),
            _stat("Open streams", "sum(tapewire_connections)"),
            _stat("Events sent", f"sum(rate(tapewire_events_sent_total[{_RATE}]))", "eps"),
            _stat("Gaps in an hour", "sum(increase(tapewire_gaps_total[1h]))"),
            _stat("Catching up", "sum(tapewire_catching_up_clients)"),
            _stat("Paused", "sum(tapewire_paused_clients)"),
        ),
        "Delivery": (
            _panel(
                "Log to socket",
                "s",
                *_quantiles("tapewire_delivery_lag_seconds"),
                text="From an event's append to the log to its write to a live client's socket.",
            ),
            Panel(
                "Log to socket, all events",
                [
                    Query(
                        f"sum by (le) (increase(tapewire_delivery_lag_seconds_bucket[{_RATE}]))",
                        "{{le}}",
                    )
                ],
                "s",
                "Points are events whose trace is kept.",
                "heatmap",
            ),
            _panel(
                "Way of an event, p95 by stage",
                "s",
                *_quantiles("tapewire_stage_seconds", "{{stage}}", "stage")[1:2],
                text="Samples of all parts: from a writer to the log, through a processor to the "
                "log, and from the log through an edge to the sockets.",
            ),
            _panel(
                "Log to socket, p99 by stream",
                "s",
                ("stream:tapewire_delivery_lag_seconds:p99_rate5m", "{{stream}}"),
            ),
            _panel(
                "Events sent",
                "eps",
                (f"sum by (stream) (rate(tapewire_events_sent_total[{_RATE}]))", "{{stream}}"),
            ),
            _panel(
                "Bytes sent",
                "Bps",
                (f"sum by (stream) (rate(tapewire_sent_bytes_total[{_RATE}]))", "{{stream}}"),
            ),
            _panel(
                "Records skipped",
                "ops",
                (
                    f"sum by (topic, reason) (rate(tapewire_records_skipped_total[{_RATE}]))",
                    "{{topic}} {{reason}}",
                ),
                text="Records that no stream can show.",
            ),
        ),
        "Clients": (
            _panel(
                "Open streams",
                "short",
                ("sum by (stream, dialect) (tapewire_connections)", "{{stream}} {{dialect}}"),
            ),
            _panel(
                "Streams opened",
                "ops",
                (f"sum by (start) (rate(tapewire_streams_opened_total[{_RATE}]))", "{{start}}"),
            ),
            _panel(
                "Slow and ended clients",
                "short",
                ("sum(tapewire_paused_clients)", "paused"),
                ("sum(tapewire_catching_up_clients)", "catching up"),
                ("sum(tapewire_ended_streams)", "ended"),
            ),
            _panel(
                "Records to catch up",
                "short",
                ("sum by (instance) (tapewire_catch_up_depth_records)", "{{instance}}"),
            ),
            _panel(
                "Reads to catch up",
                "ops",
                (f"sum(rate(tapewire_catch_up_reads_total[{_RATE}]))", "reads"),
                (f"sum(rate(tapewire_catch_up_records_total[{_RATE}]))", "records"),
                ("sum(tapewire_catch_up_reads_waiting)", "reads that clients wait for"),
            ),
            _panel(
                "Gaps",
                "short",
                ("reason:tapewire_gaps:increase10m", "{{reason}}"),
                text="Gaps that clients were notified of, in 10 minutes.",
            ),
            _panel(
                "Streams closed by the edge",
                "ops",
                (f"sum(rate(tapewire_slow_closes_total[{_RATE}]))", "slow"),
                (f"sum(rate(tapewire_drained_streams_total[{_RATE}]))", "drained"),
            ),
            _panel(
                "Requests refused",
                "reqps",
                (f"sum by (status) (rate(tapewire_refused_total[{_RATE}]))", "{{status}}"),
                (f"sum(rate(tapewire_sockets_refused_total[{_RATE}]))", "no socket"),
            ),
            _panel(
                "Events that conflation left out",
                "eps",
                (f"sum(rate(tapewire_conflated_events_total[{_RATE}]))", "events"),
            ),
        ),
        "Process": (
            _panel(
                "Lag of the event loop",
                "s",
                ("max by (instance) (tapewire_event_loop_lag_seconds)", "{{instance}}"),
            ),
            _panel("Sockets", "short", ("tapewire_sockets", "{{instance}}")),
            _panel(
                "Windows",
                "bytes",
                ("sum by (topic) (tapewire_window_bytes)", "{{topic}}"),
                text="The newest records of each topic that are in memory.",
            ),
            _panel(
                "Age of windows",
                "s",
                ("max by (topic) (tapewire_window_age_seconds)", "{{topic}}"),
            ),
            _panel(
                "Full or draining",
                "bool",
                ("tapewire_memory_full", "full {{instance}}"),
                ("tapewire_draining", "draining {{instance}}"),
            ),
            *_resources('{component="edge"}'),
        ),
    },
)

_PROCESSORS = Dashboard(
    "processors",
    "Tapewire: processors and workers",
    {
        "Now": (
            _stat("Parts that answer", 'sum(up{job="tapewire"})'),
            _stat("Messages", f"sum(rate(tapewire_worker_messages_total[{_RATE}]))", "ops"),
            _stat("Records that wait", "sum(tapewire_worker_lag_records)"),
            _stat("Commands in progress", "sum(tapewire_commands_running)"),
            _stat("Commands that are not done", "sum(tapewire_commands_lag_records)"),
            _stat("Dead letters in an hour", "sum(increase(tapewire_dead_letters_total[1h]))"),
        ),
        "Processors": (
            _panel(
                "Lag",
                "short",
                (
                    "component_topic:tapewire_worker_lag_records:sum",
                    "{{component}} {{topic}}",
                ),
                text="Records that wait to be processed.",
            ),
            _panel(
                "Messages",
                "ops",
                (f"sum by (topic) (rate(tapewire_worker_messages_total[{_RATE}]))", "{{topic}}"),
            ),
            _panel(
                "Records written",
                "ops",
                (f"rate(tapewire_worker_records_total[{_RATE}])", "{{component}} {{instance}}"),
            ),
            _panel("Transactions", "s", *_quantiles("tapewire_worker_transaction_seconds")),
            _panel(
                "Offsets",
                "short",
                (
                    "sum by (component, topic) (tapewire_worker_offset)",
                    "{{component}} {{topic}}",
                ),
                text="A line that does not rise while records wait is a consumer that is stuck.",
            ),
            _panel(
                "Slowest recovery",
                "s",
                ("tapewire_worker_recovery_seconds", "{{component}} {{instance}}"),
            ),
            _panel(
                "Faults",
                "short",
                (f"sum(increase(tapewire_worker_fenced_total[{_RATE}]))", "fenced"),
                (f"sum(increase(tapewire_worker_failures_total[{_RATE}]))", "failed rounds"),
                (f"sum(increase(tapewire_worker_log_faults_total[{_RATE}]))", "faults of the log"),
            ),
            _panel(
                "Dead letters",
                "short",
                (
                    "topic_reason:tapewire_dead_letters:increase10m > 0",
                    "{{topic}} {{reason}}",
                ),
                text="In 10 minutes.",
            ),
            _panel(
                "Held back by open transactions",
                "s",
                ("max by (topic) (tapewire_log_stuck_seconds)", "{{topic}}"),
            ),
        ),
        "Commands": (
            _panel(
                "In progress",
                "short",
                ("topic:tapewire_commands_running:sum", "{{topic}}"),
            ),
            _panel(
                "Not done",
                "short",
                ("topic:tapewire_commands_lag_records:sum", "{{topic}}"),
            ),
            _panel(
                "Ended",
                "ops",
                (
                    f"sum by (topic, outcome) (rate(tapewire_commands_total[{_RATE}]))",
                    "{{topic}} {{outcome}}",
                ),
            ),
        ),
        "Processes": (
            _panel(
                "Events published",
                "eps",
                (
                    f"sum by (component) (rate(tapewire_published_events_total[{_RATE}]))",
                    "{{component}}",
                ),
            ),
            _panel(
                "Events refused",
                "eps",
                (
                    f"sum by (component, topic) (rate(tapewire_refused_events_total[{_RATE}]))",
                    "{{component}} {{topic}}",
                ),
            ),
            _panel(
                "Versions",
                "short",
                (
                    "count by (component, version) (tapewire_build_info)",
                    "{{component}} {{version}}",
                ),
            ),
            *_resources('{component!="edge", job="tapewire"}'),
        ),
    },
)

_RISK = Dashboard(
    "risk",
    "Tapewire: risk",
    {
        "Now": (
            _stat("Open alerts", "sum(tapewire_open_alerts)"),
            _stat("Not acknowledged", "sum(severity:tapewire_open_alerts_unacknowledged:sum)"),
            _stat(
                "Critical, not acknowledged",
                'sum(tapewire_open_alerts{severity="critical", acknowledged="false"})',
            ),
            _stat(
                "Batches of returns",
                f'sum(rate(tapewire_worker_messages_total{{topic=~".*portfolio.returns"}}[{_RATE}]))',
                "ops",
            ),
            _stat(
                "Batches that wait",
                'sum(tapewire_worker_lag_records{topic=~".*portfolio.returns"})',
            ),
            _stat(
                "Returns refused in an hour",
                'sum(increase(tapewire_dead_letters_total{topic=~".*portfolio.returns"}[1h]))',
            ),
        ),
        "Alerts": (
            _panel(
                "Open alerts",
                "short",
                (
                    "sum by (severity, acknowledged) (tapewire_open_alerts)",
                    "{{severity}}, acknowledged: {{acknowledged}}",
                ),
            ),
            _panel(
                "Alert events",
                "eps",
                (
                    (
                        f'sum(rate(tapewire_worker_messages_total{{topic=~".*risk.alerts", '
                        f'component="processor"}}[{_RATE}]))'
                    ),
                    "alerts",
                ),
                (
                    f'sum(rate(tapewire_worker_messages_total{{topic=~".*risk.acks"}}[{_RATE}]))',
                    "acknowledgements",
                ),
            ),
            _panel(
                "Alerts to clients",
                "s",
                (
                    'stream:tapewire_delivery_lag_seconds:p99_rate5m{stream=~".*alerts.*"}',
                    "p99 {{stream}}",
                ),
                text="From an alert's append to the log to its write to a client's socket.",
            ),
            _panel(
                "Notifications",
                "ops",
                (
                    (
                        "sum by (topic) (rate(tapewire_worker_messages_total"
                        f'{{component="notifier"}}[{_RATE}]))'
                    ),
                    "{{topic}}",
                ),
                text="What the notifier reads: events, and what is to be sent of them.",
            ),
        ),
        "Measures": (
            _panel(
                "Inputs",
                "ops",
                (
                    (
                        "sum by (topic) (rate(tapewire_worker_messages_total{topic=~"
                        f'".*(portfolio.returns|risk.+)", component="processor"}}[{_RATE}]))'
                    ),
                    "{{topic}}",
                ),
            ),
            _panel(
                "Lag of inputs",
                "short",
                (
                    (
                        "component_topic:tapewire_worker_lag_records:sum"
                        '{topic=~".*(portfolio.returns|risk.+)", component="processor"}'
                    ),
                    "{{topic}}",
                ),
            ),
            _panel(
                "Dead letters of inputs",
                "short",
                (
                    (
                        "topic_reason:tapewire_dead_letters:increase10m"
                        '{topic=~".*(portfolio.returns|risk.+)"} > 0'
                    ),
                    "{{topic}} {{reason}}",
                ),
                text="In 10 minutes.",
            ),
        ),
    },
)

_KAFKA = Dashboard(
    "kafka",
    "Tapewire: Kafka",
    {
        "Now": (
            _stat("Edges that reach Kafka", "sum(tapewire_kafka_connected)"),
            _stat(
                "Partitions without a leader",
                "count(tapewire_partition_connected) - sum(tapewire_partition_connected)",
                text="Of those that edges follow.",
            ),
            _stat("Held back for", "max(tapewire_log_stuck_seconds)", "s"),
            _stat("Log on the disk", "sum(tapewire_broker_log_bytes)", "bytes"),
            _stat(
                "Disk that is free", "min(instance:tapewire_broker_disk_free:ratio)", "percentunit"
            ),
            _stat(
                "Certificates expire in",
                "min(certificate:tapewire_certificate_left_seconds:min)",
                "s",
            ),
        ),
        "Log": (
            _panel(
                "Records appended",
                "ops",
                (
                    (
                        "sum by (topic) (max by (topic, partition) "
                        "(clamp_min(deriv(tapewire_log_end_offset[2m]), 0)))"
                    ),
                    "{{topic}}",
                ),
                text="Of the partitions that edges follow.",
            ),
            _panel(
                "Records read by tails",
                "ops",
                (f"rate(tapewire_tail_records_total[{_RATE}])", "{{instance}}"),
            ),
            _panel(
                "Lag of consumers",
                "short",
                (
                    "sum by (component) (tapewire_worker_lag_records)",
                    "{{component}}",
                ),
                ("topic:tapewire_commands_lag_records:sum", "{{topic}}"),
            ),
            _panel(
                "Events published",
                "eps",
                (
                    f"sum by (topic) (rate(tapewire_published_events_total[{_RATE}]))",
                    "{{topic}}",
                ),
            ),
            _panel(
                "Held back by open transactions",
                "s",
                (
                    "max by (topic, partition) (tapewire_log_stuck_seconds)",
                    "{{topic}}/{{partition}}",
                ),
            ),
            _panel(
                "Partitions with a leader",
                "short",
                ("sum by (topic) (tapewire_partition_connected)", "{{topic}}"),
            ),
        ),
        "Embedded broker": (
            _panel(
                "Log by topic",
                "bytes",
                ("topk(12, tapewire_broker_log_bytes)", "{{topic}}"),
            ),
            _panel(
                "Disk",
                "bytes",
                ("tapewire_broker_disk_free_bytes", "free"),
                ("tapewire_broker_disk_size_bytes", "size"),
            ),
            _panel("Parts that are up", "short", ("tapewire_part_up", "{{part}}")),
            _panel(
                "Starts after deaths",
                "short",
                ("increase(tapewire_part_restarts_total[1h])", "{{part}}"),
            ),
            _panel("Memory of parts", "bytes", ("tapewire_part_resident_memory_bytes", "{{part}}")),
            _panel(
                "Processor time of parts",
                "percentunit",
                (f"rate(tapewire_part_cpu_seconds_total[{_RATE}])", "{{part}}"),
            ),
        ),
        "Schema registry": (
            _panel(
                "Values in Confluent's framing",
                "ops",
                (
                    (f"sum by (component, outcome) (rate(tapewire_foreign_values_total[{_RATE}]))"),
                    "{{component}} {{outcome}}",
                ),
                text="Refused: their schema could not be resolved, or they do not fit it.",
            ),
            _panel(
                "Requests without an answer",
                "short",
                (
                    (
                        "sum by (component, instance) "
                        "(increase(tapewire_schema_registry_failures_total[10m]))"
                    ),
                    "{{component}} {{instance}}",
                ),
                text="In 10 minutes.",
            ),
        ),
        "Credentials": (
            _panel(
                "Certificates expire in",
                "s",
                (
                    "certificate:tapewire_certificate_left_seconds:min",
                    "{{certificate}} {{component}} {{instance}}",
                ),
            ),
            _panel(
                "Tokens expire in",
                "s",
                (
                    "tapewire_kafka_token_expiration_timestamp_seconds - time()",
                    "{{component}} {{instance}}",
                ),
            ),
            _panel(
                "Tokens that cannot be renewed",
                "short",
                ("tapewire_kafka_token_failing", "{{component}} {{instance}}"),
                (
                    f"increase(tapewire_kafka_token_failures_total[{_RATE}])",
                    "failures {{instance}}",
                ),
            ),
        ),
    },
)

DASHBOARDS = (_EDGE, _PROCESSORS, _RISK, _KAFKA)


def rendered(dashboard: Dashboard) -> str:
    """Return a dashboard as the JSON that Grafana imports."""
    found = {
        "uid": f"tapewire-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["tapewire"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Data source",
                    "type": "datasource",
                    "query": "prometheus",
                    "refresh": 1,
                }
            ]
        },
        "links": [
            {
                "type": "dashboards",
                "title": "Tapewire",
                "tags": ["tapewire"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "panels": _placed(dashboard.rows),
    }
    return json.dumps(found, indent=2) + "\n"


def _placed(rows: Mapping[str, Sequence[Panel]]) -> list[dict[str, Any]]:
    """Return the panels with their places: rows below each other, three graphs in a line."""
    placed: list[dict[str, Any]] = []
    top = 0
    for title, panels in rows.items():
        place = {"h": 1, "w": _WIDTH, "x": 0, "y": top}
        placed.append(
            {
                "type": "row",
                "title": title,
                "collapsed": False,
                "panels": [],
                "id": len(placed) + 1,
                "gridPos": place,
            }
        )
        top += 1
        left = height = 0
        for panel in panels:
            is_stat = panel.kind == "stat"
            width = _WIDTH // (6 if is_stat else 3)
            if left + width > _WIDTH:
                left, top = 0, top + height
            height = _STAT_HEIGHT if is_stat else _HEIGHT
            place = {"h": height, "w": width, "x": left, "y": top}
            placed.append({"id": len(placed) + 1, "gridPos": place} | _shown(panel))
            left += width
        top += height
    return placed


def _shown(panel: Panel) -> dict[str, Any]:
    """Return a panel without its place."""
    is_heatmap = panel.kind == "heatmap"
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": _SOURCE,
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "instant": panel.kind == "stat",
            "range": panel.kind != "stat",
            "exemplar": "_bucket" in query.expr,
            "format": "heatmap" if is_heatmap else "time_series",
        }
        for number, query in enumerate(panel.queries)
    ]
    found: dict[str, Any] = {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": _SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
    }
    if is_heatmap:
        found["options"] = {"calculate": False, "yAxis": {"unit": panel.unit}}
    elif panel.kind == "timeseries":
        found["options"] = {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    else:
        found["options"] = {"reduceOptions": {"calcs": ["lastNotNull"]}}
    return found


def main() -> None:
    """Write the dashboards."""
    FOLDER.mkdir(exist_ok=True)
    for dashboard in DASHBOARDS:
        (FOLDER / f"{dashboard.name}.json").write_text(rendered(dashboard), encoding="utf-8")


if __name__ == "__main__":
    main()
