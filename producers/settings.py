"""Settings of the domain workers."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class TrainerSettings(BaseSettings):
    """Settings of a trainer, from the environment variables `TAPEWIRE_...`."""

    model_config = SettingsConfigDict(env_prefix="TAPEWIRE_", frozen=True)

    models_dir: Path = Path("models")
    """The folder of trained models, with a folder for each type of meter. Clients get the path of a
    model relative to it."""

    training_step_pause_s: float = Field(default=0.0, ge=0)
    """The pause between two steps of a training in seconds, for demonstrations."""


class MarketSettings(BaseSettings):
    """Settings of the market data, from the environment variables `TAPEWIRE_...`."""

    model_config = SettingsConfigDict(env_prefix="TAPEWIRE_", frozen=True)

    trades_jar: Path = Path("ta4j-examples-0.18.jar")
    """The package with the trades."""


class OrchestratorSettings(BaseSettings):
    """Settings of an orchestrator, from the environment variables `TAPEWIRE_...`."""

    model_config = SettingsConfigDict(env_prefix="TAPEWIRE_", frozen=True)

    agents: str = ""
    """Additional agents, as `package.module:Class`, separated by commas."""

    agent_names: str = ""
    """Other names of agents for clients, as `AGENT=ID:NAME:PROTOCOL`, separated by commas."""


class BacktesterSettings(BaseSettings):
    """Settings of a backtester, from the environment variables `TAPEWIRE_...`."""

    model_config = SettingsConfigDict(env_prefix="TAPEWIRE_", frozen=True)

    backtest_step_pause_s: float = Field(default=0.0, ge=0)
    """The pause between two reports of a backtest in seconds, for demonstrations."""
