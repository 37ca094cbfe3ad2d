import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from build_tools.compose_files import BROKERS, OUTSIDE_PORTS, USERS
from build_tools.images import PARTS, SERVICES

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "compose"
TEXT = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICE: dict[str, Any] = COMPOSE["services"]
REFERENCE = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")


def part_of(service: str) -> str:
    return re.sub(r"-\d$", "", service)


OWN = [name for name in SERVICE if part_of(name) in PARTS]


def test_every_part_has_a_service_and_there_are_the_promised_numbers() -> None:
    parts = [part_of(name) for name in SERVICE]
    assert set(PARTS) | set(SERVICES) <= set(parts)
    counts = {name: parts.count(name) for name in ("kafka", "edge", "processor")}
    assert counts == {"kafka": len(BROKERS), "edge": 3, "processor": 2}
    assert {name for name in SERVICE if "profiles" in SERVICE[name]} == {
        "demo",
        "grafana",
        "market",
    }


@pytest.mark.parametrize("name", SERVICE)
def test_a_service_runs_without_privileges(name: str) -> None:
    service = SERVICE[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:"), f"{name} would listen on every address"


@pytest.mark.parametrize("name", OWN)
def test_the_settings_of_a_service_are_in_the_reference(name: str) -> None:
    for variable in SERVICE[name]["environment"]:
        assert f"| `{variable}` |" in REFERENCE, variable


@pytest.mark.parametrize("name", OWN)
def test_a_part_is_its_own_user_of_kafka_and_starts_when_topics_are_there(name: str) -> None:
    service = SERVICE[name]
    user = service["environment"]["KAFKA_SASL_USERNAME"]
    assert user == part_of(name)
    assert user in USERS
    assert {"source": user, "target": "password"} in service["secrets"]
    assert COMPOSE["secrets"][user]["file"].endswith(f"/passwords/{user}")
    if name == "provision":
        assert service["depends_on"] == {"access": {"condition": "service_completed_successfully"}}
    else:
        assert service["depends_on"] == {
            "provision": {"condition": "service_completed_successfully"}
        }


def test_every_user_but_the_administrator_gets_the_access_of_its_part() -> None:
    access = SERVICE["access"]
    assert access["command"] == ["topics", "acls", "--apply", *USERS[1:]]
    assert access["environment"]["KAFKA_SASL_USERNAME"] == USERS[0] == "admin"
    assert set(access["depends_on"]) == {f"kafka-{number}" for number in BROKERS}


def test_no_secret_is_in_the_files() -> None:
    for path in FOLDER.rglob("*"):
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            assert "PRIVATE KEY" not in text
            given = r"(password|secret|key): *[\"']?[a-z0-9+/=_-]{8}"
            assert not re.search(given, text.lower())
    for name in ("TAPEWIRE_CURSOR_SECRET", "TAPEWIRE_NOTIFICATION_KEY"):
        assert f"{name}: ${{{name}:?" in TEXT


def test_an_edge_believes_only_the_network_of_the_proxy() -> None:
    (subnet,) = COMPOSE["networks"]["front"]["ipam"]["config"]
    edges = [SERVICE[name] for name in SERVICE if part_of(name) == "edge"]
    for edge in edges:
        assert edge["environment"]["TAPEWIRE_TRUSTED_PROXIES"] == subnet["subnet"]
        assert edge["networks"]["front"]["aliases"] == ["edges"]
        assert "ports" not in edge
    on_front = [name for name in SERVICE if "front" in SERVICE[name].get("networks", ())]
    assert {part_of(name) for name in on_front} == {"edge", "nginx"}


def test_the_proxy_waits_longer_than_a_heartbeat_and_buffers_nothing() -> None:
    text = (FOLDER / "nginx.conf").read_text(encoding="utf-8")
    assert "proxy_buffering off;" in text
    (timeout,) = re.findall(r"proxy_read_timeout (\d+)s", text)
    assert int(timeout) >= 60


def test_a_service_has_longer_to_stop_than_an_edge_drains() -> None:
    for name in SERVICE:
        if part_of(name) == "edge":
            assert SERVICE[name]["stop_grace_period"] == "30s"


def test_prometheus_asks_every_part_that_runs_by_default_where_it_answers() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text(encoding="utf-8"))
    (job,) = config["scrape_configs"]
    found = {}
    for group in job["static_configs"]:
        for target in group["targets"]:
            service, port = target.split(":")
            found[service] = port
            assert group["labels"] == {"component": part_of(service)}
    for name in OWN:
        environment = SERVICE[name]["environment"]
        port = environment.get("TAPEWIRE_MANAGEMENT_PORT", environment.get("TAPEWIRE_METRICS_PORT"))
        if port is not None and "profiles" not in SERVICE[name]:
            assert found.pop(name) == port
    assert not found


def test_brokers_are_published_where_they_say_that_they_are() -> None:
    for node, port in zip(BROKERS, OUTSIDE_PORTS, strict=True):
        (published,) = SERVICE[f"kafka-{node}"]["ports"]
        assert published == f"127.0.0.1:{port}:9095"
