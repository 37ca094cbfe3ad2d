from hypothesis import given, strategies as st

from sse_edge.delivery.history import History, Position

PARTITIONS = 3
steps = st.lists(
    st.tuples(
        st.integers(0, PARTITIONS - 1),
        st.lists(st.integers(0, 2), min_size=PARTITIONS, max_size=PARTITIONS),
    ),
    max_size=40,
)
"""Of which partition the next block is, and how many records of each are passed before it."""

Told = list[tuple[int, int, bytes]]
"""Partition, offset, block."""


def written(chain: list[tuple[int, list[int]]], bytes_max: int) -> tuple[History, Told, Position]:
    at_offset = [0] * PARTITIONS
    history, told = History(tuple(at_offset), bytes_max), []
    for number, (at, passed) in enumerate(chain):
        at_offset = [offset + more for offset, more in zip(at_offset, passed, strict=True)]
        offset = at_offset[at]
        at_offset[at] += 1
        block = b"block %d" % number
        history.append(block, tuple(at_offset), at)
        told.append((at, offset, block))
    horizon = tuple(offset + 1 for offset in at_offset)
    return history, told, horizon


@given(steps, st.lists(st.integers(0, 90), min_size=PARTITIONS, max_size=PARTITIONS))
def test_what_is_found_for_any_position_is_exactly_what_it_lacks(
    chain: list[tuple[int, list[int]]], wanted: list[int]
) -> None:
    history, told, horizon = written(chain, 1 << 20)
    position = tuple(min(one, end) for one, end in zip(wanted, horizon, strict=True))
    index = history.find(position, horizon)
    lacking = [block for at, offset, block in told if offset >= position[at]]
    if index is not None:
        found = history.after(index, 1 << 20)[0] if index < len(history) else ()
        assert list(found) == lacking


@given(steps, st.integers(300, 2_000))
def test_every_position_that_was_given_out_is_found_while_it_is_kept(
    chain: list[tuple[int, list[int]]], bytes_max: int
) -> None:
    history, told, horizon = written(chain, bytes_max)
    positions = list(history._positions[history._evicted :])
    kept = told[len(told) - len(positions) :]
    for number, position in enumerate(positions):
        index = history.find(position, horizon)
        assert index is not None
        rest = [block for _, _, block in kept[number + 1 :]]
        found = list(history.after(index, 1 << 20)[0]) if index < len(history) else []
        assert found == rest
    lost = told[: len(told) - len(positions)]
    if lost and positions:
        at, offset, _ = lost[-1]
        before = list(positions[0])
        before[at] = offset
        assert history.find(tuple(before), horizon) is None


def test_a_piece_is_bounded_and_says_where_it_ends() -> None:
    history = History((0,), 1 << 20)
    for offset in range(10):
        history.append(b"x" * 1_000, (offset + 1,), 0)
    index = history.find((2,), (10,))
    assert index == 2
    blocks, position = history.after(index, 3_000)
    assert 2 <= len(blocks) <= 4
    assert position == (2 + len(blocks),)
