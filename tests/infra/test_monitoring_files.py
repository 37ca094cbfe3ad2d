"""The rules, their unit tests and the configurations, as Prometheus' own tools judge them."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from docs.generate import PAGES, metric_parts
from tests.support.prometheus import MONITORING, check

pytestmark = pytest.mark.infra


def alerts() -> list[dict[str, Any]]:
    rules = yaml.safe_load((MONITORING / "rules.yaml").read_text())
    return [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]


def test_every_alert_fires_for_what_it_is_about_and_is_quiet_before() -> None:
    tested = yaml.safe_load((MONITORING / "rules_test.yaml").read_text())["tests"]
    names = {found["alertname"] for test in tested for found in test["alert_rule_test"]}
    assert names == {alert["alert"] for alert in alerts()}
    for test in tested:
        quiet, fired = test["alert_rule_test"]
        assert not quiet["exp_alerts"]
        assert fired["exp_alerts"]
    assert "SUCCESS" in check("promtool", "test", "rules", "rules_test.yaml")


def test_a_rule_that_is_broken_fails_its_test(tmp_path: Path) -> None:
    """The tests can fail: without the time that an alert waits, it fires too early."""
    for name in ("rules.yaml", "rules_test.yaml"):
        (tmp_path / name).write_text((MONITORING / name).read_text())
    rules = (tmp_path / "rules.yaml").read_text()
    (tmp_path / "rules.yaml").write_text(re.sub(r"        for: 15m\n", "", rules))
    with pytest.raises(AssertionError, match="TapewireAlertsUnacknowledged"):
        check("promtool", "test", "rules", "rules_test.yaml", cwd=tmp_path)


def test_the_configurations_are_valid(tmp_path: Path) -> None:
    check("promtool", "check", "rules", "rules.yaml")
    check("promtool", "check", "config", "prometheus.embedded.yaml")
    # Debian's Prometheus is built without Kubernetes: the rest is checked with other targets.
    config = (MONITORING / "prometheus.kubernetes.yaml").read_text()
    changed = config.replace("kubernetes_sd_configs:\n      - role: pod", "static_configs: []")
    assert changed != config
    (tmp_path / "prometheus.yaml").write_text(changed)
    (tmp_path / "rules.yaml").write_text((MONITORING / "rules.yaml").read_text())
    check("promtool", "check", "config", "prometheus.yaml", cwd=tmp_path)
    check("amtool", "check-config", "alertmanager.yaml")


@pytest.mark.parametrize("part", metric_parts(), ids=lambda part: str(part[0]))
def test_metrics_follow_the_conventions(part: tuple[str, str, Iterable[Metric]]) -> None:
    """Base units, `_total`, HELP and so on, as `promtool check metrics` judges them."""
    registry = CollectorRegistry()
    registry.register(Collected(part[2]))
    check("promtool", "check", "metrics", stdin=generate_latest(registry).decode())


class Collected(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def test_every_runbook_exists() -> None:
    guide = (PAGES / "guides" / "monitor.md").read_text()
    titles = set(re.findall(r"^### (\w+)$", guide, re.MULTILINE))
    assert titles == {alert["alert"] for alert in alerts()}
    for alert in alerts():
        page, _, anchor = alert["annotations"]["runbook_url"].rpartition("#")
        assert page.endswith("docs/guides/monitor.md")
        assert anchor == alert["alert"].lower()
