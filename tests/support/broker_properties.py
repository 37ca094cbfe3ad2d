"""The properties file of a broker, as tests look at it."""

from collections.abc import Mapping


def read_properties(text: str) -> dict[str, str]:
    """Return the properties of a file by their names."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def addresses(listeners: str) -> dict[str, str]:
    """Return the address of each listener that is named in a list, such as `:9092`."""
    return dict(entry.split("://") for entry in listeners.split(","))


def inter_broker_addresses(properties: Mapping[str, str]) -> tuple[str, str]:
    """Return where a broker listens for brokers, and where brokers, itself too, look for it."""
    name = properties["inter.broker.listener.name"]
    listening = addresses(properties["listeners"])
    return listening[name], addresses(properties["advertised.listeners"])[name]
