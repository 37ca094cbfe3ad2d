import pytest

from kafka_io.errors import InvalidSetting
from producers.settings import (
    BacktesterSettings,
    MarketSettings,
    OrchestratorSettings,
    TrainerSettings,
)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPEWIRE_MODELS_DIR", "/models")
    monkeypatch.setenv("TAPEWIRE_AGENTS", "a:B,c:D")
    monkeypatch.setenv("TAPEWIRE_AGENT_NAMES", "a=b:c:d")
    monkeypatch.setenv("TAPEWIRE_TRADES_JAR", "/trades.jar")
    assert str(TrainerSettings().models_dir) == "/models"
    assert OrchestratorSettings().agents == "a:B,c:D"
    assert OrchestratorSettings().agent_names == "a=b:c:d"
    assert str(MarketSettings().trades_jar) == "/trades.jar"


def test_a_pause_is_not_negative() -> None:
    with pytest.raises(InvalidSetting, match="TAPEWIRE_TRAINING_STEP_PAUSE_S is -1"):
        TrainerSettings(training_step_pause_s=-1)
    with pytest.raises(InvalidSetting, match="TAPEWIRE_BACKTEST_STEP_PAUSE_S is -1"):
        BacktesterSettings(backtest_step_pause_s=-1)
