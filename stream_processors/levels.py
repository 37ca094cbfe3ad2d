"""Confidence levels, exact: which loss is the VaR, and how much lies beyond it."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil


class InvalidInput(ValueError):
    """A parameter has no meaning; the message names it and what would have one."""


@dataclass(frozen=True, slots=True)
class Level:
    """A confidence level, exact: 0.95 is nineteen twentieths, and no double."""

    confidence: Fraction

    @classmethod
    def of(cls, confidence: str) -> "Level":
        """Read a level such as "0.95".

        Raises:
            InvalidInput: it does not lie between 0.5 and 1.
        """
        level = Fraction(confidence)
        if not Fraction(1, 2) < level < 1:
            raise InvalidInput(
                f"the confidence is {confidence}; it must lie between 0.5 and 1, as 0.95 does"
            )
        return cls(level)

    @property
    def tail(self) -> float:
        """The share of losses beyond."""
        return float(1 - self.confidence)

    @property
    def observations_min(self) -> int:
        """Fewer scenarios than these say nothing about such a tail: 20 at 95 %, 100 at 99 %."""
        return ceil(1 / (1 - self.confidence))

    def rank(self, observations: int) -> int:
        """Which loss is the VaR, counted from the smallest, from 1."""
        # -(-a // b) is a ceiling in integers: no rounding error moves the scenario.
        top, bottom = self.confidence.numerator, self.confidence.denominator
        return -(-observations * top // bottom)
