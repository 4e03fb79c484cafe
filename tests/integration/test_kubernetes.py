"""The manifest of deploy/kubernetes: Kubernetes accepts it, it grants no more than is needed, and
it fits the service that it runs."""

import json
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from fastapi.testclient import TestClient

from app.core.keys import add_key
from app.core.settings import Settings, load_settings, unknown_variables

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
KINDS = {
    "Namespace",
    "Deployment",
    "Service",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "NetworkPolicy",
}
GIB = 2**30


def load(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    """Each resource that is applied, by its kind."""
    found = [load(name) for name in load("kustomization.yaml")["resources"]]
    return {resource["kind"]: resource for resource in found}


@pytest.fixture(scope="module")
def pod(resources: dict[str, Any]) -> Any:
    return resources["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod: Any) -> Any:
    (container,) = pod["containers"]
    return container


@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_kubernetes_accepts_every_resource(resources: dict[str, Any], version: str) -> None:
    assert set(resources) == KINDS
    for resource in resources.values():
        kubernetes_validate.validate(resource, version, strict=True)


def test_kubernetes_would_refuse_a_word_that_it_does_not_know(resources: dict[str, Any]) -> None:
    wrong = json.loads(json.dumps(resources["Deployment"]))
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readinesProbe"):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


def test_kustomize_renders_the_resources_in_one_namespace(repository: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    done = subprocess.run(
        ["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True, check=True
    )
    rendered = list(yaml.safe_load_all(done.stdout))
    assert {resource["kind"] for resource in rendered} == KINDS
    for resource in rendered:
        kubernetes_validate.validate(resource, "1.37", strict=True)
        assert resource["metadata"].get("namespace", "glimpse") == "glimpse"
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    images = [line.split()[-1] for line in done.stdout.splitlines() if " image: " in line]
    assert images == [f"registry.example.org/glimpse:{project['version']}"]


def test_manifest_files_are_all_applied_or_said_to_be_none() -> None:
    applied = {"kustomization.yaml", *load("kustomization.yaml")["resources"]}
    assert {path.name for path in FOLDER.glob("*.yaml")} - applied == {"prometheus-adapter.yaml"}


def test_pod_is_unprivileged_read_only_bounded_and_has_no_account(pod: Any, container: Any) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & set(pod)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]) == {"requests", "limits"}
    assert all(mount["readOnly"] for mount in container["volumeMounts"])
    assert all(set(volume) == {"name", "secret"} for volume in pod["volumes"])


def test_pod_runs_as_the_user_of_the_image(pod: Any, repository: Path) -> None:
    context = pod["securityContext"]
    dockerfile = (repository / "Dockerfile").read_text(encoding="utf-8")
    assert f"USER {context['runAsUser']}:{context['runAsGroup']}" in dockerfile


def environment(container: Any) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"]}


def test_settings_of_the_pod_exist_and_let_it_start_on_every_address(
    container: Any, pod: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = environment(container)
    assert unknown_variables(named) == {}
    # A service named glimpse would give every pod a GLIMPSE_PORT that is an address.
    assert pod["enableServiceLinks"] is False
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(host="0.0.0.0")  # as the image starts it
    settings.check_who_may_ask()
    (mount,) = container["volumeMounts"]
    assert settings.keys_file == Path(mount["mountPath"]) / "keys.json"
    assert settings.compute_threads == int(container["resources"]["requests"]["cpu"])


def test_memory_of_the_pod_holds_what_its_parts_may_take(container: Any) -> None:
    named = environment(container)
    limit = container["resources"]["limits"]["memory"]
    assert limit.endswith("Gi")
    at_work = 1_100_000_000  # Python, PyTorch and the default model: docs/operations.md
    decoders = Settings().decode_processes * 104_000_000
    parts = (
        at_work,
        decoders,
        Settings().models_memory_bytes,
        int(named["GLIMPSE_MAX_UPLOAD_MEMORY_BYTES"]),
        int(named["GLIMPSE_DECODE_MEMORY_BYTES"]),
    )
    assert sum(parts) <= int(limit.removesuffix("Gi")) * GIB


def test_probes_and_metrics_are_answered_without_a_key(
    container: Any, resources: dict[str, Any], serve: Callable[..., Any], tmp_path: Path
) -> None:
    keys_file = tmp_path / "keys.json"
    add_key(keys_file, "phone", now=datetime.now(UTC))
    is_open = environment(container)["GLIMPSE_METRICS_OPEN"]
    annotations = resources["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    (port,) = container["ports"]
    assert annotations["prometheus.io/port"] == str(port["containerPort"])
    with serve(keys_file=keys_file, metrics_open=is_open) as client:
        assert client.get("/models").status_code == 401
        assert client.get(annotations["prometheus.io/path"]).status_code == 200
        for kind, path in (
            ("startup", "/healthz"),
            ("liveness", "/healthz"),
            ("readiness", "/readyz"),
        ):
            probe = container[f"{kind}Probe"]["httpGet"]
            assert probe == {"path": path, "port": port["name"]}
            assert client.get(path).status_code == 200


def test_pod_has_time_to_answer_what_is_in_flight(pod: Any, container: Any) -> None:
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    cleanup = 8
    needed = before + Settings().shutdown_timeout_seconds + cleanup
    assert pod["terminationGracePeriodSeconds"] > needed


def test_selectors_all_find_the_pods(resources: dict[str, Any]) -> None:
    template = resources["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert resources["Deployment"]["spec"]["selector"]["matchLabels"] == template
    assert resources["Service"]["spec"]["selector"] == template
    assert resources["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == template
    assert resources["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == template
    target = resources["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target["name"] == resources["Deployment"]["metadata"]["name"]
    assert target["kind"] == "Deployment"
    assert "replicas" not in resources["Deployment"]["spec"]


def test_autoscaler_looks_at_a_metric_that_the_service_has_and_the_adapter_gives(
    resources: dict[str, Any], client: TestClient
) -> None:
    (metric,) = resources["HorizontalPodAutoscaler"]["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert f"\n{name} " in client.get("/metrics").text
    (rule,) = load("prometheus-adapter.yaml")["rules"]["custom"]
    assert rule["seriesQuery"].startswith(f"{name}{{")
    assert rule["name"]["matches"] == name
    # It scales before anybody is refused.
    assert int(metric["pods"]["target"]["averageValue"]) < Settings().max_queue_size


def test_disruptions_leave_a_replica(resources: dict[str, Any]) -> None:
    least = resources["HorizontalPodAutoscaler"]["spec"]["minReplicas"]
    assert least > resources["PodDisruptionBudget"]["spec"]["maxUnavailable"]
