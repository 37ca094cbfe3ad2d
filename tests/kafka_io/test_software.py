from kafka_io.software import software_version
from tapewire import __version__


def test_the_version_is_that_of_the_package_or_unknown() -> None:
    assert software_version() in ("", __version__)
