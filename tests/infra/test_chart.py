"""The Helm chart, rendered for five sets of values and checked against Kubernetes' schemas."""

import json
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from kafka_io.schema_registry import SchemaRegistrySettings
from kafka_io.security import SecuritySettings
from kafka_io.settings import MetricsSettings, ProducerSettings, Settings, variable_of
from producers.settings import TrainerSettings
from sse_edge.settings import EdgeSettings
from stream_processors.settings import ProcessorSettings

pytestmark = pytest.mark.infra

ROOT = Path(__file__).parents[2]
CHART = ROOT / "infra" / "charts" / "tapewire"
TOOLS = ROOT / "build" / "infra"
SETS = sorted(CHART.glob("ci/*-values.yaml"))
KUBERNETES = ("1.27", "1.31", "1.37")
SETTINGS: tuple[type[Settings], ...] = (
    EdgeSettings,
    ProcessorSettings,
    ProducerSettings,
    SecuritySettings,
    SchemaRegistrySettings,
    MetricsSettings,
    TrainerSettings,
)
FOREIGN = {"KafkaTopic", "KafkaUser", "PrometheusRule", "ServiceMonitor"}
"""Kinds of operators, whose schemas Kubernetes does not have."""
ELSEWHERE = {"TAPEWIRE_DATA_DIR", "KAFKA_BOOTSTRAP_SERVERS"}
"""Variables of the command `tapewire`, and one that has no prefix."""
each_set = pytest.mark.parametrize("values", SETS, ids=lambda path: path.stem)


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    binary = TOOLS / "helm"
    assert binary.exists(), f"there is no {binary}; `make infra-test` builds it"
    command = [str(binary), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def template(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return helm("template", "events", CHART, "-n", "desk", "--kube-version", "1.34.0", *arguments)


def documents(text: str) -> list[Any]:
    """Return the documents of a YAML text; the parser is where the validator is."""
    program = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))"
    command = [str(TOOLS / "venv" / "bin" / "python"), "-c", program]
    parsed = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return list(json.loads(parsed.stdout))


@cache
def rendered(values: Path) -> Sequence[Mapping[str, Any]]:
    """Return the manifests of a set of values."""
    made = template("-f", values)
    assert made.returncode == 0, made.stderr
    return [manifest for manifest in documents(made.stdout) if manifest]


def of_kind(manifests: Sequence[Mapping[str, Any]], kind: str) -> list[Any]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def pods(manifests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the specification of each pod, by the name of what makes it."""
    return {
        manifest["metadata"]["name"]: manifest["spec"]["template"]["spec"]
        for manifest in manifests
        if "template" in manifest.get("spec", {})
    }


def env_of(container: Mapping[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}


def test_there_are_five_sets_of_values() -> None:
    assert len(SETS) >= 5


@each_set
def test_helm_finds_nothing_to_mend(values: Path) -> None:
    found = helm("lint", "--strict", "--kube-version", "1.34.0", "-f", values, CHART)
    assert found.returncode == 0, found.stdout + found.stderr


@each_set
def test_kubernetes_takes_the_manifests(
    values: Path, tmp_path: Path, account: Callable[[str], None]
) -> None:
    made = tmp_path / "manifests.yaml"
    made.write_text(template("-f", values).stdout, encoding="utf-8")
    foreign = [manifest for manifest in rendered(values) if manifest["kind"] in FOREIGN]
    for version in KUBERNETES:
        validate = str(TOOLS / "venv" / "bin" / "kubernetes-validate")
        command = [validate, "--strict", "-k", version, str(made)]
        checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        printed = checked.stdout + checked.stderr
        assert checked.returncode == 0, printed
        assert printed.count(" passed for ") == len(rendered(values)) - len(foreign), printed
    account(f"{len(rendered(values))} manifests, {len(foreign)} of kinds without a schema")


@each_set
def test_pods_run_without_privileges(values: Path) -> None:
    for name, pod in pods(rendered(values)).items():
        assert pod["enableServiceLinks"] is False, name
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]


@each_set
def test_parts_get_settings_that_exist(values: Path) -> None:
    known = {variable_of(kind, name) for kind in SETTINGS for name in kind.model_fields}
    for pod in pods(rendered(values)).values():
        for container in pod["containers"]:
            assert set(env_of(container)) - known <= ELSEWHERE


@each_set
def test_edges_stop_in_order(values: Path) -> None:
    (edge,) = (
        m
        for m in of_kind(rendered(values), "Deployment")
        if m["metadata"]["name"].endswith("-edge")
    )
    pod = edge["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    drain = float(env_of(container)["TAPEWIRE_DRAIN_S"])
    assert pod["terminationGracePeriodSeconds"] >= pause + drain + 10
    ready = container["readinessProbe"]
    assert (ready["httpGet"]["path"], ready["failureThreshold"]) == ("/health/ready", 1)
    assert edge["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


@each_set
def test_no_secret_is_in_a_manifest(values: Path) -> None:
    assert of_kind(rendered(values), "Secret") == []
    for pod in pods(rendered(values)).values():
        for container in pod["containers"]:
            for name, value in env_of(container).items():
                is_secret = name.endswith(("_SECRET", "_PASSWORD"))
                assert not is_secret or "secretKeyRef" in value, name


def test_processors_have_names_that_stay() -> None:
    (processors,) = of_kind(rendered(CHART / "ci" / "production-values.yaml"), "StatefulSet")
    (container,) = processors["spec"]["template"]["spec"]["containers"]
    named = env_of(container)["TAPEWIRE_WORKER_ID"]
    assert named == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert processors["spec"]["replicas"] == 3


def test_edges_scale_by_streams_and_by_the_lag_of_their_loops() -> None:
    (scaler,) = of_kind(
        rendered(CHART / "ci" / "production-values.yaml"), "HorizontalPodAutoscaler"
    )
    metrics = [metric.get("pods", metric.get("resource")) for metric in scaler["spec"]["metrics"]]
    names = [metric.get("metric", metric)["name"] for metric in metrics]
    assert names == ["tapewire_connections", "tapewire_event_loop_lag_seconds", "cpu"]
    (edge,) = (
        manifest
        for manifest in of_kind(rendered(CHART / "ci" / "production-values.yaml"), "Deployment")
        if manifest["metadata"]["name"].endswith("-edge")
    )
    assert "replicas" not in edge["spec"]


def test_topics_are_made_before_the_parts_start() -> None:
    (job,) = of_kind(rendered(CHART / "ci" / "production-values.yaml"), "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["topics", "create"]


def test_with_strimzi_topics_and_users_are_resources() -> None:
    manifests = rendered(CHART / "ci" / "strimzi-values.yaml")
    assert of_kind(manifests, "Job") == []
    topics = {topic["spec"]["topicName"] for topic in of_kind(manifests, "KafkaTopic")}
    assert {"prod.risk.alerts", "prod.training.events"} <= topics
    users = {user["metadata"]["name"]: user for user in of_kind(manifests, "KafkaUser")}
    edge = users["events-tapewire-edge"]["spec"]["authorization"]["acls"]
    assert {"type": "topic", "name": "prod.risk.alerts", "patternType": "literal"} in [
        acl["resource"] for acl in edge
    ]
    pod = pods(manifests)["events-tapewire-edge"]
    env = env_of(pod["containers"][0])
    assert env["KAFKA_SASL_USERNAME"] == "events-tapewire-edge"
    secrets = [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume]
    assert secrets == ["events-tapewire-edge", "events-cluster-ca-cert"]


def test_all_parts_reach_the_schema_registry() -> None:
    for name, pod in pods(rendered(CHART / "ci" / "production-values.yaml")).items():
        (container,) = pod["containers"]
        env = env_of(container)
        assert env["TAPEWIRE_SCHEMA_REGISTRY_URL"] == "https://registry.example.com", name
        assert env["TAPEWIRE_WIRE"] == "confluent"
        secret = {"secretKeyRef": {"name": "registry-user", "key": "password"}}
        assert env["TAPEWIRE_SCHEMA_REGISTRY_PASSWORD"] == secret
        folder, _, _ = env["TAPEWIRE_SCHEMA_REGISTRY_CA_FILE"].rpartition("/")
        (mount,) = (mount for mount in container["volumeMounts"] if mount["mountPath"] == folder)
        (volume,) = (volume for volume in pod["volumes"] if volume["name"] == mount["name"])
        assert volume["secret"]["secretName"] == "registry-ca"


def test_every_setting_can_be_given_to_the_part_that_has_it() -> None:
    """By the maps `settings`, whose schema must take each name."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    part = schema["properties"]["edge"]["properties"]["settings"]
    names = {variable_of(kind, name) for kind in SETTINGS for name in kind.model_fields}
    assert len(names) > 100
    for settings in (schema["properties"]["settings"], part):
        pattern = re.compile(settings["propertyNames"]["pattern"])
        assert [name for name in sorted(names) if not pattern.match(name)] == []
    given = dict.fromkeys(sorted(names), "1")
    made = template(
        *("-f", CHART / "ci" / "small-values.yaml", "--set-json", f"settings={json.dumps(given)}")
    )
    assert made.returncode == 0, made.stderr
    for pod in pods([found for found in documents(made.stdout) if found]).values():
        assert given.keys() <= env_of(pod["containers"][0]).keys()


def test_edges_scale_by_metrics_that_they_show() -> None:
    (scaler,) = of_kind(
        rendered(CHART / "ci" / "production-values.yaml"), "HorizontalPodAutoscaler"
    )
    wanted = {
        metric["pods"]["metric"]["name"] for metric in scaler["spec"]["metrics"] if "pods" in metric
    }
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    assert {name for name in wanted if f"| `{name}` | gauge |" in page} == wanted


def test_alert_rules_are_those_of_the_monitoring_folder() -> None:
    (rules,) = of_kind(rendered(CHART / "ci" / "production-values.yaml"), "PrometheusRule")
    text = (ROOT / "infra" / "monitoring" / "rules.yaml").read_text(encoding="utf-8")
    (ours,) = documents(text)
    assert rules["spec"]["groups"] == ours["groups"]


def test_each_part_with_metrics_is_scraped_under_the_name_of_its_part() -> None:
    manifests = rendered(CHART / "ci" / "production-values.yaml")
    (monitor,) = of_kind(manifests, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    scraped = {
        service["metadata"]["labels"]["app.kubernetes.io/component"]
        for service in of_kind(manifests, "Service")
        if wanted <= service["metadata"]["labels"].items()
    }
    assert scraped == {"edge", "processor", "trainer", "backtester", "agents", "notifier"}
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["relabelings"][0]["targetLabel"] == "component"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("kafka.bootstrapServers=", "kafka.bootstrapServers is empty"),
        ("kafka.bootstrapServers=kafka", "pattern"),
        ("edge.cursorSecret.name=", "edge.cursorSecret.name is empty"),
        ("edge.auth.jwt.issuer=", "edge.auth names no issuer"),
        ("edge.replica=3", "replica"),
        ("edge.settings.PATH=/x", "PATH"),
        ("kafka.securityProtocol=SASL_SSL", "saslMechanism"),
        ("strimzi.enabled=true", "strimzi"),
        ("edge.drainSeconds=-1", "drainSeconds"),
        ("schemaRegistry.wire=confluent", "needs schemaRegistry.url"),
        ("schemaRegistry.url=registry:8081", "pattern"),
    ],
)
def test_values_that_cannot_work_are_refused(wrong: str, reason: str) -> None:
    made = template("-f", CHART / "ci" / "small-values.yaml", "--set", wrong)
    assert made.returncode != 0
    assert reason in made.stderr


def test_the_schema_has_each_value() -> None:
    (values,) = documents((CHART / "values.yaml").read_text(encoding="utf-8"))
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))

    def check(values: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> None:
        for name, value in values.items():
            assert name in schema["properties"], f"{path}.{name}"
            if isinstance(value, dict) and "properties" in schema["properties"][name]:
                check(value, schema["properties"][name], f"{path}.{name}")

    check(values, schema, "")
