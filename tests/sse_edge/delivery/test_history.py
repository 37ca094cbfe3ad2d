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
"""The partition of the next block, and how many records of each partition come before it."""

Written = list[tuple[int, int, bytes]]
"""Partition, offset, block."""


def written(
    chain: list[tuple[int, list[int]]], bytes_max: int
) -> tuple[History, Written, Position]:
    offsets = [0] * PARTITIONS
    history, blocks = History(tuple(offsets), bytes_max), []
    for number, (index, passed) in enumerate(chain):
        offsets = [offset + more for offset, more in zip(offsets, passed, strict=True)]
        offset = offsets[index]
        offsets[index] += 1
        block = b"block %d" % number
        history.append(block, tuple(offsets), index)
        blocks.append((index, offset, block))
    horizon = tuple(offset + 1 for offset in offsets)
    return history, blocks, horizon


@given(steps, st.lists(st.integers(0, 90), min_size=PARTITIONS, max_size=PARTITIONS))
def test_the_blocks_found_for_a_position_are_exactly_those_after_it(
    chain: list[tuple[int, list[int]]], wanted: list[int]
) -> None:
    history, blocks, horizon = written(chain, 1 << 20)
    position = tuple(min(offset, end) for offset, end in zip(wanted, horizon, strict=True))
    index = history.find(position, horizon)
    lacking = [block for at, offset, block in blocks if offset >= position[at]]
    if index is not None:
        found = history.after(index, 1 << 20)[0] if index < len(history) else ()
        assert list(found) == lacking


@given(steps, st.integers(300, 2_000))
def test_every_position_of_a_block_is_found_until_the_block_is_evicted(
    chain: list[tuple[int, list[int]]], bytes_max: int
) -> None:
    history, blocks, horizon = written(chain, bytes_max)
    positions = list(history._positions[history._evicted :])
    kept = blocks[len(blocks) - len(positions) :]
    for number, position in enumerate(positions):
        index = history.find(position, horizon)
        assert index is not None
        rest = [block for _, _, block in kept[number + 1 :]]
        found = list(history.after(index, 1 << 20)[0]) if index < len(history) else []
        assert found == rest
    lost = blocks[: len(blocks) - len(positions)]
    if lost and positions:
        at, offset, _ = lost[-1]
        before = list(positions[0])
        before[at] = offset
        assert history.find(tuple(before), horizon) is None


def test_the_blocks_returned_are_bounded_and_come_with_the_position_after_them() -> None:
    history = History((0,), 1 << 20)
    for offset in range(10):
        history.append(b"x" * 1_000, (offset + 1,), 0)
    index = history.find((2,), (10,))
    assert index == 2
    found, position = history.after(index, 3_000)
    assert 3 <= len(found) <= 4  # what a block costs besides its bytes does not count
    assert position == (2 + len(found),)


def test_a_small_rest_is_returned_with_the_blocks_before_it() -> None:
    history = History((0,), 1 << 20)
    for offset in range(10):
        history.append(b"x" * 1_000, (offset + 1,), 0)
    assert len(history.after(0, 8_000)[0]) == 10  # 2,000 bytes are a quarter of 8,000
    found, position = history.after(0, 7_900)
    assert len(found) < 10
    assert position == (len(found),)
