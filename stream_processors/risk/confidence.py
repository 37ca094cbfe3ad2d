"""Confidence levels, exact: the rank of the loss that is the VaR, and the share beyond it. Pure.

A level is a fraction and not a float, so the rank of the VaR scenario has no rounding error.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import cache
from math import ceil


class InvalidInput(ValueError):
    """A parameter is out of its range; the message names it and the values that are allowed."""


_HALF = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class ConfidenceLevel:
    """A confidence level, exact: 0.95 is 19/20."""

    confidence: Fraction
    number: float = field(init=False, compare=False)
    """The confidence as a float, for events."""
    tail: float = field(init=False, compare=False)
    """The share of losses beyond the VaR, 1 - c."""
    observations_min: int = field(init=False, compare=False)
    """The fewest scenarios of which one lies in the tail: 20 at 95 %, 100 at 99 %."""
    _numerator: int = field(init=False, compare=False, repr=False)
    _denominator: int = field(init=False, compare=False, repr=False)
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Compute what derives from the confidence.

        Raises:
            InvalidInput: the level is not between 0.5 and 1, or so near to 1 that it rounds to it.
        """
        if not (_HALF < self.confidence < 1 and float(self.confidence) < 1):
            raise InvalidInput(_refusal(str(self.confidence)))
        # Computed once: fractions are slow, even to hash, and each return needs the rank.
        tail = 1 - self.confidence
        object.__setattr__(self, "number", float(self.confidence))
        object.__setattr__(self, "tail", float(tail))
        object.__setattr__(self, "observations_min", ceil(1 / tail))
        object.__setattr__(self, "_numerator", self.confidence.numerator)
        object.__setattr__(self, "_denominator", self.confidence.denominator)
        object.__setattr__(self, "_hash", hash(self.confidence))

    def __hash__(self) -> int:
        return self._hash

    @classmethod
    def of(cls, confidence: str | float) -> "ConfidenceLevel":
        """Parse a level such as "0.95"; a number is the level that its shortest decimals state.

        Raises:
            InvalidInput: the level is not between 0.5 and 1, or so near to 1 that it rounds to it.
        """
        try:
            return _level(_parse(str(confidence)))
        except (ArithmeticError, ValueError):
            raise InvalidInput(_refusal(str(confidence))) from None

    def rank(self, observations: int) -> int:
        """Return the rank of the VaR among so many losses: 1 is the smallest loss."""
        # -(-a // b) is a ceiling in integers: no rounding error moves the scenario.
        return -(-observations * self._numerator // self._denominator)


@cache
def _level(confidence: Fraction) -> ConfidenceLevel:
    """Return the one object of a level: caches compare fractions slowly, and identities fast."""
    return ConfidenceLevel(confidence)


def _refusal(confidence: str) -> str:
    return f"the confidence is {confidence}; it must lie between 0.5 and 1, as 0.95 does"


def _parse(confidence: str) -> Fraction:
    """Return the level that a text states; 0 for a number that is not between 0 and 1."""
    if "/" in confidence:
        return Fraction(confidence)
    # Compared as a decimal first: as a fraction, 1e-999999999 would take a gigabyte.
    decimal = Decimal(confidence)
    return Fraction(decimal) if Decimal("0.1") < decimal < 1 else Fraction(0)
