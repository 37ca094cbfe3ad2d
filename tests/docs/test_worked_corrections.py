"""The worked example of corrections: its returns give its forecasts, exceptions and alerts."""

import re
from pathlib import Path

from schemas.events import Return
from schemas.topics import TopicPartition
from stream_processors.risk.config import RiskConfig
from stream_processors.risk.portfolio import PortfolioRisk, ReturnOffset
from stream_processors.risk.thresholds import Rule

PAGE = Path(__file__).parents[2] / "docs" / "concepts" / "risk.md"
CONFIG = RiskConfig(
    window=250,
    observations_min=100,
    lateness_us=10,
    default_rules=(Rule("var_95", 0.0185, hysteresis=0.02),),
)


def rows() -> list[list[str]]:
    """Return the cells of the example's table."""
    text = PAGE.read_text("utf-8").split("### A worked example of corrections")[1]
    [table] = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    _, _, *lines = table.splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_worked_example_is_what_the_processor_does() -> None:
    risk = PortfolioRisk("p", CONFIG, TopicPartition("portfolio.returns", 0))
    for day in range(1, 101):
        risk.apply(Return("p", day, -(day % 20) / 1000), ReturnOffset(day, 0))
    measure = risk.measure_event()
    assert measure is not None
    assert measure.var_95 == 0.018
    before: dict[int, float | None] = {}
    for offset, cells in enumerate(rows(), 101):
        at_day, version, value, forecast, exceptions, var, alert = cells
        at_us = int(at_day)
        standing = measure.var_95
        later = [known for known in before if known > at_us]
        before.setdefault(at_us, before[min(later)] if later else standing)
        observation = Return("p", at_us, float(value.strip(" %")) / 100, int(version))
        _, alerts = risk.apply(observation, ReturnOffset(offset, 0))
        measure = risk.measure_event()
        assert measure is not None
        assert measure.var_95 is not None
        assert forecast == f"{before[at_us]:.2%}".replace("%", " %")
        assert var == f"{measure.var_95:.2%}".replace("%", " %")
        assert [text.message for text in alerts] == ([alert] if alert else [])
        [at_95, *_] = measure.model_backtests
        assert at_95.exceptions == int(exceptions)
