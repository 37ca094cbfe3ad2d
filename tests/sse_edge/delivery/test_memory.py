import pytest

from sse_edge.delivery.memory import MemoryBudget, container_limit, resident_bytes


def test_a_process_near_its_limit_takes_no_streams_until_it_uses_clearly_less(
    caplog: pytest.LogCaptureFixture,
) -> None:
    used = iter([80, 91, 88, 84, 91])
    budget = MemoryBudget(100 << 20, lambda: next(used) << 20)
    found = []
    for _ in range(5):
        budget.measure()
        found.append(budget.has_room)
    assert found == [True, False, False, True, False]
    assert "91 MiB of 100 MiB of memory are used; no more streams are taken" in caplog.text


def test_a_process_without_a_limit_always_has_room() -> None:
    budget = MemoryBudget(None)
    budget.measure()
    assert budget.has_room


def test_the_memory_of_this_process_is_measured() -> None:
    budget = MemoryBudget(resident_bytes() // 2)
    budget.measure()
    assert not budget.has_room


@pytest.mark.parametrize(
    ("text", "limit"), [("1048576\n", 1 << 20), ("max\n", None), (f"{1 << 62}\n", None)]
)
def test_a_container_has_the_limit_of_its_group(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    limit: int | None,
) -> None:
    path = tmp_path_factory.mktemp("cgroup") / "memory.max"
    monkeypatch.setattr("sse_edge.delivery.memory._CGROUP_LIMITS", (path,))
    assert container_limit() is None
    path.write_text(text)
    assert container_limit() == limit
