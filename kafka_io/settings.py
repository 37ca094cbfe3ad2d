"""Settings of the clients that read and write Kafka, and what the settings of all parts share.

Settings are environment variables. A value that is out of its range, or contradicts another one,
is refused at start by its variable, with the values that are allowed.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from math import inf
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from kafka_io.errors import InvalidSetting
from kafka_io.log_lines import LogFormat

logger = logging.getLogger(__name__)

_OF_KUBERNETES = re.compile(r"(tcp|udp|sctp)://.+:\d+", re.IGNORECASE)
"""Kubernetes gives every container `TAPEWIRE_PORT=tcp://10.0.0.1:8000` where a Service is called
`tapewire`, and `TAPEWIRE_METRICS_PORT=...` where one is called `tapewire-metrics`."""
_passed_over: set[str] = set()
_SHOWN_CHARS = 60
METRICS_HOST = "127.0.0.1"
_PREFIX_CHARS_MAX = 150
"""Kafka's names have at most 249 characters, and the longest of ours some 30; a rebuild's version
and the names of groups come on top."""
_PREFIX = re.compile(rf"[a-zA-Z0-9._-]{{0,{_PREFIX_CHARS_MAX}}}")

LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR"],
    BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
]
"""The name of a log level, in any case."""


def _as_prefix(text: str) -> str:
    if not _PREFIX.fullmatch(text):
        raise ValueError(
            f"a topic's name has letters, digits, '.', '_' and '-' only, and a prefix at most "
            f"{_PREFIX_CHARS_MAX} of them"
        )
    return text


Release = Literal["0.1.0"]
"""An earlier release, whose versions of schemas can be written."""

TopicPrefix = Annotated[str, AfterValidator(_as_prefix)]
"""A prefix of the names of topics, as Kafka allows it; it may be empty."""


class NumberRange(NamedTuple):
    """The numbers that a setting may have."""

    is_whole: bool
    lowest: float | None = None
    highest: float | None = None
    is_above_lowest: bool = False
    """Whether the lowest number itself is not allowed."""
    is_below_highest: bool = False
    """Whether the highest number itself is not allowed."""

    def allows(self, number: float) -> bool:
        """Return whether a number is in the range."""
        low = -inf if self.lowest is None else self.lowest
        high = inf if self.highest is None else self.highest
        is_inside = low <= number <= high
        is_open_end = (self.is_above_lowest and number == low) or (
            self.is_below_highest and number == high
        )
        return is_inside and not is_open_end

    def __str__(self) -> str:
        kind = "a whole number" if self.is_whole else "a number"
        if self.is_above_lowest or self.is_below_highest:
            lowest = "above" if self.is_above_lowest else "at least"
            highest = "below" if self.is_below_highest else "at most"
            return f"{kind} {lowest} {self.lowest:.15g} and {highest} {self.highest:.15g}"
        return f"{kind} from {self.lowest:.15g} to {self.highest:.15g}"


class _Environment(EnvSettingsSource):
    """The environment, without what Kubernetes sets for Services that are named like this system.

    A `..._PORT` of a Service is an address; such a setting of ours is a number.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        value, key, is_complex = super().get_field_value(field, field_name)
        if (
            isinstance(value, str)
            and key.lower().endswith("port")
            and _OF_KUBERNETES.fullmatch(value)
        ):
            name = key.upper()
            if name not in _passed_over:
                _passed_over.add(name)
                logger.warning(
                    "%s is %s, which Kubernetes sets for a Service of this name; it is passed over",
                    *(name, value),
                )
            value = None
        return value, key, is_complex


class Settings(BaseSettings):
    """Settings from the environment variables `TAPEWIRE_...`."""

    model_config = SettingsConfigDict(
        env_prefix="TAPEWIRE_",
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,  # it may be a secret
    )

    def __init__(self, **values: Any) -> None:
        """Read the settings that are not given.

        Raises:
            InvalidSetting: a value is not allowed, or contradicts another one.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False)
            lines = [_explained(type(self), problem) for problem in found]
            raise InvalidSetting("; ".join(dict.fromkeys(lines))) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read given values first, then the environment."""
        del env_settings, dotenv_settings, file_secret_settings
        return init_settings, _Environment(settings_cls)


def variable_of(kind: type[BaseSettings], name: str) -> str:
    """Return the environment variable of a setting."""
    alias = kind.model_fields[name].validation_alias
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return str(alias or f"{kind.model_config.get('env_prefix', '')}{name.upper()}")


def number_range(field: FieldInfo) -> NumberRange | None:
    """Return the numbers that a setting, or each of its elements, may have; None without any."""
    return _range_in(field.annotation, field.metadata)


def _range_in(annotation: Any, metadata: Iterable[object]) -> NumberRange | None:
    constraints = list(metadata)
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        for item in more:
            constraints += item.metadata if isinstance(item, FieldInfo) else [item]
        return _range_in(inner, constraints)
    if annotation not in (int, float):
        ranges = (_range_in(inner, constraints) for inner in get_args(annotation))
        return next((found for found in ranges if found is not None), None)
    found = NumberRange(annotation is int)
    for item in constraints:
        limit: Any = item
        if isinstance(item, Ge):
            found = found._replace(lowest=limit.ge)
        elif isinstance(item, Gt):
            found = found._replace(lowest=limit.gt, is_above_lowest=True)
        elif isinstance(item, Le):
            found = found._replace(highest=limit.le)
        elif isinstance(item, Lt):
            found = found._replace(highest=limit.lt, is_below_highest=True)
    return found


def _explained(kind: type[BaseSettings], problem: Mapping[str, Any]) -> str:
    """Return a sentence about a value that is not allowed."""
    reason = str(problem["msg"]).removeprefix("Value error, ")
    location = problem["loc"]
    variables = {variable_of(kind, name): name for name in kind.model_fields}
    name = variables.get(str(location[0]), str(location[0])) if location else ""
    field = kind.model_fields.get(name)
    if field is None:
        return reason
    variable, value = variable_of(kind, name), _shown(field, problem["input"])
    if len(location) > 1 and isinstance(location[1], str):
        value = f"{location[1]}={value}"  # one of several by name
    if problem["type"] == "value_error":
        return f"{variable} is {value}: {reason}"
    allowed = number_range(field)
    if allowed is not None and problem["type"] not in ("too_long", "too_short"):
        return f"{variable} is {value}; it must be {allowed}"
    names = next((get_args(item) for item in _parts(field.annotation) if _is_closed(item)), ())
    if names:
        return f"{variable} is {value}; it must be one of {', '.join(names)}"
    return f"{variable} is {value}: {reason}"


def _parts(annotation: Any) -> Iterable[Any]:
    yield annotation
    for inner in get_args(annotation):
        yield from _parts(inner)


def _is_closed(annotation: Any) -> bool:
    return get_origin(annotation) is Literal


def _shown(field: FieldInfo, value: object) -> str:
    if SecretStr in _parts(field.annotation):
        return "a secret that is not shown"
    text = str(value) if isinstance(value, str | int | float) else repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


class MetricsSettings(Settings):
    """The port of a part's metrics, from the environment variables `TAPEWIRE_...`."""

    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """The port of `/metrics` for Prometheus; 0 takes any free port. Unset: none."""

    metrics_host: str = METRICS_HOST
    """The address that this port listens on. It asks for no token: beyond this machine, let a
    network policy decide who may connect."""

    @model_validator(mode="after")
    def _has_port(self) -> Self:
        """Refuse an address without a port."""
        if self.metrics_port is None and self.metrics_host != METRICS_HOST:
            raise ValueError(
                "TAPEWIRE_METRICS_HOST is set, and TAPEWIRE_METRICS_PORT is not; there would be no "
                "metrics"
            )
        return self


class ProducerSettings(Settings):
    """Read from the environment variables `TAPEWIRE_...`, and `KAFKA_BOOTSTRAP_SERVERS`."""

    bootstrap_servers: str = Field(
        default="localhost:9092",
        validation_alias=AliasChoices("KAFKA_BOOTSTRAP_SERVERS", "bootstrap_servers"),
    )
    """The addresses of Kafka's brokers: `host:port`, separated by commas."""

    topic_prefix: TopicPrefix = ""
    """The prefix of every topic's name; several systems can share a cluster by it."""

    source: str = "/producers"
    """The CloudEvents source of the events that this process writes."""

    tenant: str | None = None
    """The tenant of the events; None if the system has no tenants."""

    log_level: LogLevel = "INFO"
    """The least severe lines that a worker logs: DEBUG, INFO, WARNING or ERROR."""

    log_format: LogFormat = "text"
    """How lines are logged: text, or json, an object a line."""

    write_as_release: Release | None = None
    """The earlier release, such as 0.1.0, whose schema versions are written, while parts of that
    release run. Unset: the newest versions."""

    ahead_s: float = Field(default=86_400.0, ge=0, le=1e12)
    """How far ahead of its time in the log the time of a command may be; 1e12 allows any time."""

    buffer_events_max: int = Field(default=10_000, ge=1, le=1_000_000)
    """The most events that wait for Kafka: a burst of some seconds, and a few megabytes."""

    patience_s: float = Field(default=30.0, ge=0.01, le=86_400)
    """How long a send waits for Kafka, in seconds, before it raises `Unsent`."""

    linger_ms: int = Field(default=5, ge=0, le=10_000)
    """How long a batch waits for more events, in milliseconds. 5 ms fill one unnoticed."""
