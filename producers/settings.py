"""Settings of the domain workers."""

from pathlib import Path

from pydantic import Field

from kafka_io.settings import Settings


class TrainerSettings(Settings):
    """Settings of a trainer, from the environment variables `TAPEWIRE_...`."""

    models_dir: Path = Path("models")
    """The folder of trained models, with a folder for each type of meter. Clients get the path of a
    model relative to it. Those of a tenant have a folder of their own, in `tenants`, to which their
    paths are relative."""

    training_step_pause_s: float = Field(default=0.0, ge=0, le=3_600)
    """The pause between two steps of a training in seconds, for demonstrations."""


class MarketSettings(Settings):
    """Settings of the market data, from the environment variables `TAPEWIRE_...`."""

    trades_jar: Path = Path("ta4j-examples-0.18.jar")
    """The package with the trades."""


class OrchestratorSettings(Settings):
    """Settings of an orchestrator, from the environment variables `TAPEWIRE_...`."""

    agents: str = ""
    """Additional agents, as `package.module:Class`, separated by commas."""

    agent_deadline_s: float = Field(default=60.0, ge=0.1, le=3_600)
    """How many seconds an agent may take for an answer; then its process is killed, and the user
    gets an error."""

    agents_at_once: int = Field(default=6, ge=1, le=64)
    """How many answers an orchestrator writes at once, each in a process of its own. A user has at
    most half of them, and a tenant or an agent all but one."""

    agent_names: str = ""
    """Other names of agents for clients, as `AGENT=ID:NAME:PROTOCOL`, separated by commas."""


class BacktesterSettings(Settings):
    """Settings of a backtester, from the environment variables `TAPEWIRE_...`."""

    backtest_step_pause_s: float = Field(default=0.0, ge=0, le=3_600)
    """The pause between two reports of a backtest in seconds, for demonstrations."""
