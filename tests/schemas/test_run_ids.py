import pytest
from hypothesis import given, strategies as st

from schemas.run_ids import Owner, may_follow, new_id, time_ms_of

TIMES_US = st.integers(min_value=0, max_value=1 << 57)
OWNERS = st.builds(Owner, st.none() | st.text(max_size=5), st.text(max_size=5))


@given(TIMES_US, st.none() | OWNERS)
def test_an_id_is_a_uuid_that_tells_its_time(now_us: int, owner: Owner | None) -> None:
    first, second = new_id(now_us, owner), new_id(now_us, owner)
    assert first != second
    assert time_ms_of(first) == now_us // 1000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing",
        "4fcad18f-1bb0-427e-925c-a2b1b2c86328",
        "{00000000-0000-785a-a1f3-ab59b3f06017}",
    ],
)
def test_other_texts_tell_no_time_and_are_of_no_owner(text: str) -> None:
    assert time_ms_of(text) is None
    assert may_follow(text, Owner(None, "alice"))


@given(TIMES_US, OWNERS, OWNERS)
def test_an_id_belongs_to_its_owner_only(now_us: int, owner: Owner, other: Owner) -> None:
    run_id = new_id(now_us, owner)
    assert may_follow(run_id, owner)
    assert may_follow(run_id, other) is (other == owner)


@given(TIMES_US, OWNERS)
def test_an_id_that_was_requested_without_a_token_is_of_no_owner(
    now_us: int, anybody: Owner
) -> None:
    assert may_follow(new_id(now_us), anybody)


@given(TIMES_US, OWNERS, st.integers(min_value=0, max_value=7))
def test_a_changed_id_has_no_owner(now_us: int, owner: Owner, at: int) -> None:
    run_id = new_id(now_us, owner)
    changed = ("1" if run_id[at] == "0" else "0") + run_id[at + 1 :]
    assert not may_follow(run_id[:at] + changed, owner)
