import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from kafka_io.settings import ProducerSettings
from producers.agents.agents import agents
from producers.agents.router import Router

ROUTER = Router(agents(ProducerSettings(), []))


def test_each_agent_gets_its_own_examples() -> None:
    for agent in agents(ProducerSettings(), []):
        for text in agent.examples:
            assert ROUTER.route(text).agent.agent_id == agent.agent_id, text


def test_a_confidence_is_a_probability_and_the_reason_names_words_of_the_message() -> None:
    route = ROUTER.route("what is 12 * 30")
    assert 0.5 < route.confidence <= 1.0
    assert f"({route.confidence:.0%})" in route.reasoning
    assert route.agent.name in route.reasoning


def test_a_message_of_unknown_words_is_routed_with_little_confidence() -> None:
    route = ROUTER.route("qqq zzz xxx")
    assert route.confidence < ROUTER.route("what is 12 * 30").confidence
    assert route.reasoning.startswith("nothing in it")


def test_probabilities_are_those_of_scikit_learn() -> None:
    available = agents(ProducerSettings(), [])
    texts = [text for agent in available for text in agent.examples]
    labels = [number for number, agent in enumerate(available) for _ in agent.examples]
    zeros = str.maketrans("123456789", "0" * 9)
    words = TfidfVectorizer(
        token_pattern=r"\w+|[^\w\s]",  # noqa: S106  # no password
        sublinear_tf=True,
    )
    model = LogisticRegression(C=10.0, tol=1e-8, max_iter=10_000)
    model.fit(words.fit_transform([text.translate(zeros) for text in texts]), labels)
    others = ["what is 12 * 30", "how do I chat about the VaR?", "qqq zzz xxx", ""]
    for text in [*texts, *others]:
        expected = model.predict_proba(words.transform([text.translate(zeros)]))[0]
        route = ROUTER.route(text)
        assert route.agent.agent_id == available[int(expected.argmax())].agent_id
        assert route.confidence == pytest.approx(expected.max(), abs=1e-4), text


def test_two_agents_are_enough() -> None:
    arithmetic, risk, _ = agents(ProducerSettings(), [])
    router = Router([arithmetic, risk])
    route = router.route("what is the VaR of IBM?")
    assert route.agent is risk
    assert route.confidence > 0.8
