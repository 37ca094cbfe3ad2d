from cli.log_survey import WrittenVersion
from cli.status import Edge, Status
from cli.upgrade import as_json, check, lines_of

EDGE = Edge("e", "http://e", "h", "1.0", "active", 3, "then", 0.5)
TOPICS = [
    {"topic": "a", "exists": True, "differences": ["has x"]},
    {"topic": "b", "exists": False, "differences": []},
]


def test_what_would_change_is_named_with_the_order() -> None:
    written = [WrittenVersion("t", "Alert", 1, 2, "/old"), WrittenVersion("t", "A", 2, 2, "/now")]
    found = check(Status("2.0", edges=[EDGE], writes=written), TOPICS)
    assert (found.is_possible, found.is_needed) == (True, True)
    assert list(lines_of(found)) == [
        (
            "schema     Alert: version 1 in t is read; 2.0 writes version 2, which earlier "
            "versions skip"
        ),
        "topic      b is created by `tapewire up` or `tapewire topics create`",
        "topic      a has x",
        "software   edge e 1.0",
        (
            "upgrade in this order: back up, create topics, edges one after the other, processors, "
            "workers and producers; see the guide on upgrades"
        ),
    ]
    assert as_json(found)["missing_topics"] == ["b"]


def test_a_newer_log_is_refused() -> None:
    found = check(Status("2.0", writes=[WrittenVersion("t", "New", None, None, "/x")]), [])
    assert not found.is_possible
    odd = check(
        Status("2.0", writes=[WrittenVersion("t", "N\nnothing", None, None, "\x1b[2J")]), []
    )
    assert all(line.isprintable() for line in lines_of(odd))
    assert list(lines_of(found))[-1] == (
        "the log is of a newer version than 2.0: nothing may be started by it"
    )
    assert as_json(found)["possible"] is False


def test_an_equal_system_needs_nothing() -> None:
    found = check(Status("2.0"), [])
    assert list(lines_of(found)) == ["nothing would change: the log and all parts are of 2.0"]
