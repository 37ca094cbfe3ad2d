"""Settings of the domain workers."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class TrainerSettings(BaseSettings):
    """What a trainer needs beside Kafka; read from the environment, too."""

    model_config = SettingsConfigDict(env_prefix="TAPEWIRE_", frozen=True)

    models_dir: Path = Path("models")
    """Where trained models go: a folder for each type of meter."""

    training_step_pause_s: float = Field(default=0.0, ge=0)
    """Pause between two steps of a training, for those who watch."""


class MarketSettings(BaseSettings):
    """What a market needs beside Kafka; read from the environment, too."""

    model_config = SettingsConfigDict(env_prefix="TAPEWIRE_", frozen=True)

    trades_jar: Path = Path("ta4j-examples-0.18.jar")
    """The package with the trades."""


class OrchestratorSettings(BaseSettings):
    """What an orchestrator needs beside Kafka; read from the environment, too."""

    model_config = SettingsConfigDict(env_prefix="TAPEWIRE_", frozen=True)

    agents: str = ""
    """Agents of one's own, as `package.module:Class`, with commas between."""


class BacktesterSettings(BaseSettings):
    """What a backtester needs beside Kafka; read from the environment, too."""

    model_config = SettingsConfigDict(env_prefix="TAPEWIRE_", frozen=True)

    backtest_step_pause_s: float = Field(default=0.0, ge=0)
    """Pause between two reports of a backtest, for those who watch."""
