"""The chart, applied to a real API server of Kubernetes without keeping anything (dry run)."""

from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.infra.test_chart import ROOT, SETS, each_set, of_kind, rendered
from tests.support.kubernetes import Api, api_server

pytestmark = [pytest.mark.kube, pytest.mark.timeout(300)]

PROGRAMS = ROOT / "build" / "kube"
NAMESPACE = "desk"
RESTRICTED = "restricted"
"""A namespace that admits pods of the Pod Security Standard `restricted` only."""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Generator[Api]:
    assert (PROGRAMS / "kube-apiserver").exists(), "`make kube-test` builds the server"
    with api_server(PROGRAMS, tmp_path_factory.mktemp("kubernetes")) as api:
        spaces: Mapping[str, Mapping[str, str]] = {
            NAMESPACE: {},
            RESTRICTED: {"pod-security.kubernetes.io/enforce": "restricted"},
        }
        for manifest in [found for values in SETS for found in rendered(values)]:
            spaces = {manifest["metadata"].get("namespace", NAMESPACE): {}, **spaces}
        for name, labels in spaces.items():
            metadata = {"name": name, "labels": labels}
            made = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
            api.apply(made, "").raise_for_status()
        yield api


@each_set
def test_the_server_would_take_all_manifests(
    values: Path, api: Api, account: Callable[[str], None]
) -> None:
    answers = {
        f"{manifest['kind']} {manifest['metadata']['name']}": api.apply(
            manifest, NAMESPACE, dry_run=True
        )
        for manifest in rendered(values)
    }
    refused = {name: found.json() for name, found in answers.items() if found.is_error}
    assert refused == {}
    warned = {name: found.headers.get("Warning") for name, found in answers.items()}
    assert {name: text for name, text in warned.items() if text} == {}
    account(f"{len(answers)} manifests, by {api.version}")


@each_set
def test_pods_are_admitted_where_the_strictest_standard_is_enforced(values: Path, api: Api) -> None:
    for name, template in _templates(rendered(values)).items():
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": template["metadata"].get("labels", {})},
            "spec": {"restartPolicy": "Never"} | template["spec"],
        }
        answer = api.apply(pod, RESTRICTED, dry_run=True)
        assert not answer.is_error, answer.text


def test_the_server_can_refuse(api: Api) -> None:
    """The tests above can fail: an unknown field, a wrong value and a privilege are refused."""
    manifests = rendered(next(values for values in SETS if "strimzi" in values.name))
    edge = of_kind(manifests, "Deployment")[0]
    unknown = edge | {"spec": edge["spec"] | {"replica": 3}}
    assert "field not declared in schema" in api.apply(unknown, NAMESPACE, dry_run=True).text
    topic = of_kind(manifests, "KafkaTopic")[0]
    wrong = topic | {"spec": topic["spec"] | {"partitions": 0}}
    assert api.apply(wrong, NAMESPACE, dry_run=True).status_code == 422
    pod = edge["spec"]["template"]["spec"] | {"hostNetwork": True}
    privileged = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": pod}
    assert "violates PodSecurity" in api.apply(privileged, RESTRICTED, dry_run=True).text


def _templates(manifests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the template of each workload's pods, by the workload's name."""
    return {
        manifest["metadata"]["name"]: manifest["spec"]["template"]
        for manifest in manifests
        if "template" in manifest.get("spec", {})
    }
