"""A store lists and deletes files, and keeps keys out of messages."""

from pathlib import Path

import pytest

from analytics.sinks.address import Address
from analytics.sinks.errors import InvalidAddress, LakeUnavailable
from analytics.sinks.store import Store, delta_options, iceberg_options, without_secrets


def test_folders_and_files_are_listed_and_deleted(tmp_path: Path) -> None:
    store = Store(Address("delta", str(tmp_path / "lake")))
    assert store.folders() == []
    assert store.content(store.place_of("a")) == []
    for name in ("b/x", "a/y/z", "_temporary/x"):
        path = tmp_path / "lake" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert store.folders() == ["a", "b"]
    assert store.content(store.place_of("a")) == ["y"]
    files = store.files_below(store.place_of("a"))
    assert list(files) == [f"{tmp_path}/lake/a/y/z"]
    assert list(files.values()) == [pytest.approx((tmp_path / "lake/a/y/z").stat().st_mtime)]
    for _ in range(2):
        store.delete(f"{tmp_path}/lake/a/y/z")
    assert store.files_below(store.root) != {}
    assert store.files_below(store.place_of("a")) == {}


def test_the_endpoint_and_the_region_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_REGION", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:5000")
    assert delta_options() == {"AWS_REGION": "eu-central-1", "AWS_ALLOW_HTTP": "true"}
    assert iceberg_options() == {
        "s3.region": "eu-central-1",
        "s3.endpoint": "http://127.0.0.1:5000",
    }


def test_keys_are_cut_out_of_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-key")
    assert (
        without_secrets(OSError("with\n \x1b[31m↳\x1b[0m hidden-key: no"))
        == "with <AWS_SECRET_ACCESS_KEY>: no"
    )


def test_a_folder_that_is_a_file_cannot_be_listed(tmp_path: Path) -> None:
    (tmp_path / "lake").write_bytes(b"")
    with pytest.raises(LakeUnavailable, match="cannot be listed"):
        Store(Address("delta", str(tmp_path / "lake"))).folders()


@pytest.mark.parametrize("place", ["/srv/a[1]", "/srv/50%", "s3://lake/a*"])
def test_a_place_that_a_library_would_misread_is_refused(place: str) -> None:
    with pytest.raises(InvalidAddress, match="choose a path of letters"):
        Store(Address("delta", place))
