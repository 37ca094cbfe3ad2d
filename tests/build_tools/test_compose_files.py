import ssl
import stat
from pathlib import Path

import pytest

from build_tools.compose_files import BROKERS, OUTSIDE_PORTS, USERS, main, make, properties_of
from infra import acls
from tests.support.broker_properties import addresses, inter_broker_addresses, read_properties


def test_each_file_is_made_once_and_a_second_run_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "compose"
    assert main([str(folder)]) == 0
    assert "up -d" in capsys.readouterr().out
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {"env", "users", "ca.pem", "nginx.pem", "jwks.json", "kafka-3.pem"} <= {
        path.name for path in files
    }
    make(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files


def test_secrets_are_for_the_user_of_the_folder_and_differ_from_each_other(tmp_path: Path) -> None:
    folder = tmp_path / "compose"
    make(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    passwords = [path.read_text() for path in (folder / "passwords").iterdir()]
    assert len(set(passwords)) == len(passwords)
    assert min(map(len, passwords)) >= 24
    users = dict(line.split("=", 1) for line in (folder / "users").read_text().splitlines())
    assert users == {user: (folder / "passwords" / user).read_text() for user in USERS}


def test_certificates_of_services_can_be_used_and_are_of_the_authority(tmp_path: Path) -> None:
    make(tmp_path)
    for name in ("nginx", "kafka-1"):
        context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        context.load_cert_chain(tmp_path / f"{name}.pem")


def test_every_part_has_a_user_of_its_own() -> None:
    programs = {name for name, part in acls.PARTS.items() if part.purpose.startswith("`python -m")}
    assert programs | {"admin", "provision", "reporter"} == set(USERS)


def test_files_of_brokers_without_acls_are_refused(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "passwords" / "admin").unlink()
    with pytest.raises(SystemExit, match="of an earlier version, whose brokers had no ACLs"):
        make(tmp_path)


@pytest.mark.parametrize("node", BROKERS)
def test_only_brokers_and_the_administrator_need_no_acls(node: int) -> None:
    properties = read_properties(properties_of(node))
    assert properties["authorizer.class.name"].endswith(".StandardAuthorizer")
    supers = {"User:admin", *(f"User:kafka-{number}" for number in BROKERS)}
    assert set(properties["super.users"].split(";")) == supers
    assert "allow.everyone.if.no.acl.found" not in properties


@pytest.mark.parametrize("node", BROKERS)
def test_no_listener_of_a_broker_is_without_encryption_and_proof(node: int) -> None:
    properties = read_properties(properties_of(node))
    protocols = dict(
        pair.split(":") for pair in properties["listener.security.protocol.map"].split(",")
    )
    assert set(addresses(properties["listeners"])) == set(protocols)
    for listener, protocol in protocols.items():
        proof = f"listener.name.{listener.lower()}.ssl.client.auth"
        assert protocol == "SASL_SSL" or properties[proof] == "required"
    assert f"OUTSIDE://localhost:{OUTSIDE_PORTS[node - 1]}" in properties["advertised.listeners"]
    assert properties["min.insync.replicas"] == "2"


@pytest.mark.parametrize("node", BROKERS)
def test_brokers_find_each_other_and_themselves_in_their_network(node: int) -> None:
    """A port of the host is no address of a broker for the others, nor for itself."""
    listening, advertised = inter_broker_addresses(read_properties(properties_of(node)))
    assert (listening, advertised) == (":9094", f"kafka-{node}:9094")
