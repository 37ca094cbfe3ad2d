"""Routes a message to an agent, with a confidence and a reason.

A text classifier is fitted at start on the agents' examples: words, weighted by TF-IDF, and a
multinomial logistic regression. The probability is the confidence, and the words with the largest
weights are the reason.

The examples are a few dozen, so NumPy does it: scikit-learn, which gives the same probabilities,
takes 100 MiB of memory and seconds of an idle system's start.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from producers.agents.agents import Agent

_REASONS = 3
_REGULARIZATION = 10.0
"""The inverse regularization; the examples are few, so it is weak."""
_STEPS_MAX = 1_000
_GRADIENT_MAX = 1e-4
"""Where the loss changes by no more than this, the classifier fits."""
_WORD = re.compile(r"\w+|[^\w\s]")

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Route:
    """The agent of a message."""

    agent: Agent
    confidence: float
    """Probability, 0 to 1."""
    reasoning: str


class Router:
    """A classifier of messages by agent."""

    def __init__(self, agents: Sequence[Agent]) -> None:
        """Fit the classifier to at least two agents with examples."""
        self._agents = agents
        texts = [text for agent in agents for text in agent.examples]
        labels = [number for number, agent in enumerate(agents) for _ in agent.examples]
        self._words = _WordWeights(texts)
        seen = np.array([self._words.weigh(text) for text in texts])
        self._weights, self._intercepts = _fit(seen, np.eye(len(agents))[labels])

    def route(self, message: str) -> Route:
        """Return the agent of a message."""
        seen = self._words.weigh(message)
        probabilities = _softmax(seen @ self._weights + self._intercepts)
        best = int(np.argmax(probabilities))
        agent = self._agents[best]
        confidence = float(probabilities[best])
        contributions = seen * self._weights[:, best]
        words = [
            self._words.names[number]
            for number in np.argsort(contributions)[::-1][:_REASONS]
            if contributions[number] > 0
        ]
        known = " ".join(f"'{word}'" for word in words) or "nothing in it"
        return Route(agent, confidence, f"{known} speaks for {agent.name} ({confidence:.0%})")


class _WordWeights:
    """The words of some texts, and TF-IDF weights of the words of any text.

    A word counts 1 + ln(its count), times 1 + ln((1 + texts) / (1 + texts that have it)). The
    weights of a text have the Euclidean norm 1.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        words = [set(_words(text)) for text in texts]
        self.names: Sequence[str] = sorted(set().union(*words))
        self._numbers = {name: number for number, name in enumerate(self.names)}
        having = np.array([sum(name in found for found in words) for name in self.names])
        self._rarity = np.log((1 + len(texts)) / (1 + having)) + 1

    def weigh(self, text: str) -> _Floats:
        """Return the weight of each known word in a text; all are 0 if it has none of them."""
        counts = np.zeros(len(self.names))
        for word in _words(text):
            if word in self._numbers:
                counts[self._numbers[word]] += 1
        weights: _Floats = np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0) * self._rarity
        return weights / (np.linalg.norm(weights) or 1.0)


def _fit(seen: _Floats, labels: _Floats) -> tuple[_Floats, _Floats]:
    """Return the weights of words for each label, and the intercepts of the labels.

    They minimize `_REGULARIZATION` times the sum of the cross entropies plus half the sum of the
    squared weights. This is Nesterov's accelerated gradient descent, which begins anew where its
    momentum points uphill (O'Donoghue and Candès, 2015).

    Args:
        seen: a row of word weights for each example.
        labels: a row for each example, with 1 in the column of its label.
    """
    rows = np.column_stack([seen, np.ones(len(seen))])  # the last weight is the intercept
    penalized = np.ones((rows.shape[1], 1))
    penalized[-1] = 0
    # Half the largest eigenvalue bounds the curvature of the cross entropy.
    step = 1 / (_REGULARIZATION * float(np.linalg.norm(rows, 2)) ** 2 / 2 + 1)
    weights = ahead = np.zeros((rows.shape[1], labels.shape[1]))
    momentum = 1.0
    for _ in range(_STEPS_MAX):
        error = _softmax(rows @ ahead) - labels
        gradient = _REGULARIZATION * rows.T @ error + penalized * ahead
        if np.abs(gradient).max() < _GRADIENT_MAX:
            break
        moved = ahead - step * gradient
        if float(np.sum(gradient * (moved - weights))) > 0:
            momentum = 1.0
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = moved + (momentum - 1) / following * (moved - weights)
        weights, momentum = moved, following
    return ahead[:-1], ahead[-1]


def _softmax(scores: _Floats) -> _Floats:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    probabilities: _Floats = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities


def _words(text: str) -> Iterable[str]:
    """Return words and signs; all digits are 0, so that all numbers of a length are one word."""
    readable = "".join("0" if letter.isdigit() else letter for letter in text.lower())
    return _WORD.findall(readable)
