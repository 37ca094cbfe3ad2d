from infra import trades_package
from infra.settings import InfraSettings


def test_the_package_is_the_locked_one() -> None:
    jar = trades_package.trades_jar(InfraSettings().maven_url)
    assert jar.name == "ta4j-examples-0.18.jar"
    assert jar.read_bytes()[:2] == b"PK"
