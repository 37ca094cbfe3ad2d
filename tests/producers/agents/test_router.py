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
