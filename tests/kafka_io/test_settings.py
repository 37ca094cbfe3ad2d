"""What the settings of all parts share: where they come from, their ranges, and their errors."""

import logging
import re
from collections.abc import Iterator
from math import inf, nan, nextafter
from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import BaseSettings

from analytics.lake_settings import LakeSettings
from analytics.sinks.settings import SinkSettings
from analytics.sql.settings import SqlSettings
from infra.settings import InfraSettings
from kafka_io import settings as settings_module
from kafka_io.errors import InvalidSetting
from kafka_io.schema_registry import SchemaRegistrySettings
from kafka_io.security import SecuritySettings
from kafka_io.settings import (
    MetricsSettings,
    NumberRange,
    ProducerSettings,
    number_range,
    variable_of,
)
from producers.settings import (
    BacktesterSettings,
    MarketSettings,
    OrchestratorSettings,
    TrainerSettings,
)
from sse_edge.settings import EdgeSettings
from stream_processors.notifications.settings import NotifierSettings
from stream_processors.settings import ProcessorSettings

KINDS: tuple[type[BaseSettings], ...] = (
    BacktesterSettings,
    EdgeSettings,
    InfraSettings,
    LakeSettings,
    MarketSettings,
    MetricsSettings,
    NotifierSettings,
    OrchestratorSettings,
    ProcessorSettings,
    ProducerSettings,
    SchemaRegistrySettings,
    SecuritySettings,
    SinkSettings,
    SqlSettings,
    TrainerSettings,
)


PROJECT = Path(__file__).parents[2]
DECLARED_SETTINGS = re.compile(r"^class (\w+)\(\w*(?<!Base)Settings\):", re.MULTILINE)


def numbers() -> Iterator[tuple[type[BaseSettings], str, NumberRange]]:
    for kind in KINDS:
        for name, field in kind.model_fields.items():
            if "int" in str(field.annotation) or "float" in str(field.annotation):
                yield kind, name, number_range(field) or NumberRange(is_whole=False)


def id_of(value: object) -> str:
    return value.__name__ if isinstance(value, type) else str(value)


def as_text(name: str, number: object) -> str:
    return f"p={number}" if name == "var_limits" else str(number)


def out_of(allowed: NumberRange) -> list[float | str]:
    """Numbers and words that are not in a range, from just outside to the absurd."""
    low, high = allowed.lowest, allowed.highest
    assert low is not None
    assert high is not None
    step = 1 if allowed.is_whole else 0
    below = low if allowed.is_above_lowest else low - step if step else nextafter(low, -inf)
    above = high if allowed.is_below_highest else high + step if step else nextafter(high, inf)
    return [below, above, -1e9 if not step else -(10**9), 10**30, nan, inf, -inf, "many", "1e999"]


def test_settings_come_from_the_environment_or_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "a:1,b:2")
    monkeypatch.setenv("TAPEWIRE_TOPIC_PREFIX", "x.")
    settings = ProducerSettings()
    assert (settings.bootstrap_servers, settings.topic_prefix) == ("a:1,b:2", "x.")
    assert ProducerSettings(bootstrap_servers="c:3").bootstrap_servers == "c:3"


def test_every_class_of_settings_is_walked_here() -> None:
    sources = [
        path.read_text() for path in PROJECT.glob("[!.]*/**/*.py") if "build" not in path.parts
    ]
    declared = {name for source in sources for name in DECLARED_SETTINGS.findall(source)}
    assert {kind.__name__ for kind in KINDS} == declared


@pytest.mark.parametrize(("kind", "name", "allowed"), [*numbers()], ids=id_of)
def test_each_number_has_a_range_and_is_refused_by_its_variable_outside(
    kind: type[BaseSettings], name: str, allowed: NumberRange, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert None not in (allowed.lowest, allowed.highest), f"{name} has no range"
    variable = variable_of(kind, name)
    for number in out_of(allowed):
        assert isinstance(number, str) or not allowed.allows(number)
        monkeypatch.setenv(variable, as_text(name, number))
        with pytest.raises(InvalidSetting) as refused:
            kind()
        text = str(refused.value)
        assert text.startswith(f"{variable} is ")
        assert name == "var_limits" or str(number)[:20] in text
        assert str(allowed) in text or "is no limit; write" in text


@pytest.mark.parametrize(("kind", "name", "allowed"), [*numbers()], ids=id_of)
def test_both_ends_of_a_range_are_allowed(
    kind: type[BaseSettings], name: str, allowed: NumberRange, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What each contradicts is a matter of other tests.
    monkeypatch.setenv("TAPEWIRE_RISK_WINDOW", "20000")
    monkeypatch.setenv("TAPEWIRE_RISK_OBSERVATIONS_MIN", "2")
    variable = variable_of(kind, name)
    ends = [allowed.lowest] * (not allowed.is_above_lowest)
    ends += [allowed.highest] * (not allowed.is_below_highest)
    for number in ends or [0.5]:
        assert number is not None
        assert allowed.allows(number)
        monkeypatch.setenv(variable, as_text(name, number))
        kind()


@pytest.mark.parametrize("kind", KINDS)
def test_what_kubernetes_sets_for_a_service_is_passed_over_with_one_line(
    kind: type[BaseSettings], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings_module._passed_over.clear()
    expected = kind()
    lines = 0
    for name in kind.model_fields:
        variable = variable_of(kind, name)
        service = variable.removesuffix("_PORT")
        assert not variable.endswith(("_SERVICE_HOST", "_TCP", "_ADDR", "_PROTO"))
        for suffix, value in (
            ("_SERVICE_HOST", "10.0.0.1"),
            ("_SERVICE_PORT", "8000"),
            ("_SERVICE_PORT_HTTP", "8000"),
            ("_PORT", "tcp://10.0.0.1:8000"),
            ("_PORT_8000_TCP", "tcp://10.0.0.1:8000"),
            ("_PORT_8000_TCP_PROTO", "tcp"),
            ("_PORT_8000_TCP_PORT", "8000"),
            ("_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ):
            monkeypatch.setenv(service + suffix, value)
        lines += variable.endswith("_PORT")
    with caplog.at_level(logging.WARNING):
        assert kind() == expected
        assert kind() == expected
    assert len(caplog.messages) == lines
    for message in caplog.messages:
        assert message.endswith("sets for a Service of this name; it is passed over")


def test_a_service_named_tapewire_does_not_become_the_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for address in ("tcp://10.0.0.1:8000", "tcp://[fd00::1]:8000", "udp://10.0.0.1:53"):
        monkeypatch.setenv("TAPEWIRE_PORT", address)
        monkeypatch.setenv("TAPEWIRE_METRICS_PORT", address)
        assert EdgeSettings().port == 8000
        assert ProcessorSettings().metrics_port is None
    monkeypatch.setenv("TAPEWIRE_PORT", "tcp")
    with pytest.raises(InvalidSetting, match="TAPEWIRE_PORT is tcp; it must be a whole number fro"):
        EdgeSettings()


@pytest.mark.parametrize("kind", [ProducerSettings, EdgeSettings, ProcessorSettings, InfraSettings])
@pytest.mark.parametrize("prefix", ["my system.", "a/b", "x" * 151, "\u00e9", "a\n"])
def test_a_prefix_has_only_what_a_topics_name_may_have(
    kind: type[BaseSettings], prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPEWIRE_TOPIC_PREFIX", "t1_a-B.")
    kind()
    monkeypatch.setenv("TAPEWIRE_TOPIC_PREFIX", prefix)
    with pytest.raises(InvalidSetting, match=r"TAPEWIRE_TOPIC_PREFIX is [\S\s]+: a topic's name"):
        kind()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"log_level": "loud"}, "_LOG_LEVEL is LOUD; it must be one of DEBUG, INFO, WARNING, ERR"),
        ({"patience_s": 0}, "TAPEWIRE_PATIENCE_S is 0; it must be a number from 0.01 to 86400"),
        ({"linger_ms": -1, "patience_s": "x" * 99}, r"PATIENCE_S is x{60}\.\.\.; .*TAPEWIRE_LINGE"),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_those_that_are(
    given: dict[str, Any], why: str
) -> None:
    with pytest.raises(InvalidSetting, match=why):
        ProducerSettings(**given)


@pytest.mark.parametrize("more", [{"port": -1}, {}])
def test_a_secret_is_in_no_message(more: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPEWIRE_JWT_ISSUER", "me")
    monkeypatch.setenv("TAPEWIRE_JWT_JWKS", "keys.json")
    monkeypatch.setenv("TAPEWIRE_JWT_HS256_SECRET", "hidden" * 6)
    with pytest.raises(InvalidSetting, match=r"TAPEWIRE_PORT is -1|needs one of") as refused:
        EdgeSettings(**more)  # type: ignore[arg-type]  # on purpose
    assert "hidden" not in f"{refused.value!r} {refused.value.__context__}"
