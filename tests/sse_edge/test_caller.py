from hypothesis import given, strategies as st

from sse_edge.caller import NAME_BYTES, OWNED_ID_CHARS, Caller, is_owned, owned_id

names = st.binary(min_size=NAME_BYTES, max_size=NAME_BYTES)
callers = st.none() | st.builds(
    Caller, st.text(max_size=5), st.none() | st.text(max_size=5), st.just(0.0)
)


@given(names, callers, callers)
def test_an_id_is_its_owners_and_no_other_callers(
    name: bytes, owner: Caller | None, caller: Caller | None
) -> None:
    id_ = owned_id(name, owner)
    assert len(id_) == OWNED_ID_CHARS
    assert is_owned(id_, owner)
    assert is_owned(id_, caller) == (caller == owner)


@given(st.text(max_size=30), callers)
def test_any_text_can_be_checked(text: str, caller: Caller | None) -> None:
    assert is_owned(text, caller) in (True, False)
