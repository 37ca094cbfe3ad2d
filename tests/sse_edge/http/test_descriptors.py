import resource
import subprocess
import sys

from sse_edge.http.descriptors import raise_limit


def limit_under(soft: int, hard: int) -> tuple[int, int]:
    """Return what `raise_limit` says in a process with these limits, and its soft limit then."""
    program = (
        "import resource",
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))",
        "from sse_edge.http.descriptors import raise_limit",
        "print(raise_limit(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(program)], capture_output=True, text=True, check=True
    )
    sockets, soft_after = map(int, done.stdout.split())
    return sockets, soft_after


def test_the_soft_limit_is_raised_to_the_hard_one_and_some_descriptors_are_kept() -> None:
    assert limit_under(256, 512) == (384, 512)
    assert limit_under(256, 256) == (128, 256)


def test_a_few_sockets_fit_into_any_limit() -> None:
    assert limit_under(100, 100) == (16, 100)


def test_a_limit_that_is_already_raised_stays() -> None:
    first = raise_limit()
    assert raise_limit() == first
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == hard
