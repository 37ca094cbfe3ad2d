from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from sse_edge.errors import InvalidParameter
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.requests import (
    ENTITIES_MAX,
    ENTITY_CHARS_MAX,
    many_channels,
    of_entities,
    one_channel,
)

names = st.text(min_size=1, max_size=ENTITY_CHARS_MAX)


def error_of(call: Callable[[], object]) -> InvalidParameter | None:
    try:
        call()
    except InvalidParameter as error:
        return error
    return None


mystocks = st.sampled_from(list(CHANNELS.mystocks))


@given(st.lists(st.tuples(mystocks, st.none() | names), min_size=1, max_size=20))
def test_many_channels_select_what_the_topics_name(topics: list[tuple[str, str | None]]) -> None:
    stream = many_channels(
        name if entity is None else f"{name}:{entity}" for name, entity in topics
    )
    selected = {selection.channel.name: selection.entities for selection in stream.selections}
    for name, entity in topics:
        everything = any(other == name and e is None for other, e in topics)
        assert (selected[CHANNELS.in_many[name].name] == frozenset()) == everything
        if not everything:
            assert entity in selected[CHANNELS.in_many[name].name]
    assert len(selected) == len({name for name, _ in topics})


@given(st.lists(st.text(max_size=30)))
def test_any_topics_are_a_stream_or_an_error_that_names_the_parameter(topics: list[str]) -> None:
    error = error_of(lambda: many_channels(topics))
    assert error is None or error.parameter == "topic"


@given(st.dictionaries(st.sampled_from(list(CHANNELS.mystocks_parameters)), names), mystocks)
def test_a_channels_own_parameters_filter_it_and_others_are_refused(
    query: dict[str, str], name: str
) -> None:
    own = CHANNELS[name].entity_parameters
    values = {value for parameter, value in query.items() if parameter in own}
    foreign = [parameter for parameter in query if parameter not in own]
    error = error_of(lambda: one_channel(name, query))
    if error is None:
        assert not foreign
        assert one_channel(name, query).selections[0].entities == values
    else:
        assert foreign or len(values) > 1
        assert error.parameter in (*foreign, "entity_id")


@given(st.frozensets(names, max_size=ENTITIES_MAX + 5))
def test_a_stream_of_entities_has_1_to_100_of_them(entities: frozenset[str]) -> None:
    if 1 <= len(entities) <= ENTITIES_MAX:
        assert of_entities("chat", entities).selections[0].entities == entities
    else:
        with pytest.raises(InvalidParameter, match=f"{len(entities)} are given"):
            of_entities("chat", entities)


@pytest.mark.parametrize("entity", ["", "x" * 257])
def test_an_entitys_name_has_bounds(entity: str) -> None:
    with pytest.raises(InvalidParameter, match=f"it has {len(entity)} characters"):
        of_entities("chat", [entity])


def test_an_unknown_event_names_the_known_ones() -> None:
    with pytest.raises(InvalidParameter, match="'sneeze' is no event of this stream; it has"):
        one_channel("alerts", {}, ["sneeze"])


def test_too_many_entities_of_several_channels_are_refused() -> None:
    topics = [f"{('training', 'backtest')[n % 2]}:{n}" for n in range(ENTITIES_MAX + 1)]
    with pytest.raises(InvalidParameter, match="more than 100 entities"):
        many_channels(topics)
