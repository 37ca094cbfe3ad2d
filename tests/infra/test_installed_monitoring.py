from pathlib import Path

from infra.installed_monitoring import FOLDER, NAMES, install_monitoring


def test_all_files_but_the_rules_tests_are_installed(tmp_path: Path) -> None:
    there = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}
    assert set(NAMES) == there - {"rules_test.yaml"}
    lines = install_monitoring(tmp_path, Path("data"))
    assert lines == [f"wrote {tmp_path / name}" for name in NAMES]
    assert install_monitoring(tmp_path, Path("data")) == lines


def test_the_configuration_reads_the_targets_of_the_data_directory(tmp_path: Path) -> None:
    data = tmp_path / "data"
    install_monitoring(tmp_path / "made", data / "prometheus.json")
    text = (tmp_path / "made" / "prometheus.embedded.yaml").read_text()
    assert f'"{data}/prometheus.json"' in text
    assert "../" not in text
    assert f"--config.file {tmp_path}/made/prometheus.embedded.yaml" in text
