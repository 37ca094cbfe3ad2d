"""Confidence levels, exact: which loss is the VaR, and how much lies beyond it."""

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil


class InvalidInput(ValueError):
    """A parameter has no meaning; the message names it and what would have one."""


@dataclass(frozen=True, slots=True)
class Level:
    """A confidence level, exact: 0.95 is nineteen twentieths, and no double."""

    confidence: Fraction
    tail: float = field(init=False, compare=False)
    """The share of losses beyond."""
    observations_min: int = field(init=False, compare=False)
    """Fewer scenarios than these say nothing about such a tail: 20 at 95 %, 100 at 99 %."""
    _top: int = field(init=False, compare=False, repr=False)
    _bottom: int = field(init=False, compare=False, repr=False)
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        # Worked out once: fractions are slow, to hash too, and a level is asked at every return.
        beyond = 1 - self.confidence
        object.__setattr__(self, "tail", float(beyond))
        object.__setattr__(self, "observations_min", ceil(1 / beyond))
        object.__setattr__(self, "_top", self.confidence.numerator)
        object.__setattr__(self, "_bottom", self.confidence.denominator)
        object.__setattr__(self, "_hash", hash(self.confidence))

    def __hash__(self) -> int:
        return self._hash

    @classmethod
    def of(cls, confidence: str) -> "Level":
        """Read a level such as "0.95".

        Raises:
            InvalidInput: it does not lie between 0.5 and 1.
        """
        try:
            level = Fraction(confidence)
        except ValueError:
            level = Fraction(0)
        if not Fraction(1, 2) < level < 1:
            raise InvalidInput(
                f"the confidence is {confidence}; it must lie between 0.5 and 1, as 0.95 does"
            )
        return cls(level)

    def rank(self, observations: int) -> int:
        """Which loss is the VaR, counted from the smallest, from 1."""
        # -(-a // b) is a ceiling in integers: no rounding error moves the scenario.
        return -(-observations * self._top // self._bottom)
