"""The files of deploy/ and docker-compose.yml, held to what the service really is: every metric and
label that a rule or a dashboard names exists; nothing runs as root, or may write where it need
not."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

ADDED_BY_PROMETHEUS = {"up": {"job", "instance"}}
LABELS_OF_A_TARGET = {"job", "instance"}
SUFFIXES = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
WORDS = {"by", "without", "and", "or", "unless", "on", "ignoring", "bool", "offset", "le"}
RECOMMENDED_LABELS = {"critical", "warning", "info"}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def exposed(client: TestClient, image_file: bytes) -> dict[str, set[str]]:
    """Every sample's name that the real service exposes after some use, and its labels."""
    file = {"image": ("photo.jpg", image_file, "image/jpeg")}
    assert client.post("/attention?format=png", files=file).status_code == 200
    assert client.post("/caption", files={"image": ("a", b"none")}).status_code == 415
    metrics: Any = client.app.state.metrics  # type: ignore[attr-defined]
    exposed: dict[str, set[str]] = {name: set(each) for name, each in ADDED_BY_PROMETHEUS.items()}
    # An instrument with labels has no sample before its first use; it knows its labels.
    for instrument in vars(metrics).values():
        if hasattr(instrument, "_labelnames"):
            for suffix in SUFFIXES[instrument._type]:
                labels = {*instrument._labelnames, *LABELS_OF_A_TARGET}
                exposed[instrument._name + suffix] = labels
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            exposed.setdefault(sample.name, set(LABELS_OF_A_TARGET)).update(sample.labels)
    return exposed


def uses(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric that an expression names, with the labels that it selects by."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    bare = re.sub(r"\[[^\]]*\]|\b\d[\w.]*", "", bare)  # no durations, no numbers
    bare = re.sub(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)", " ", bare)
    for found in re.finditer(r"([a-zA-Z_:][\w:]*)\s*(\{[^}]*\}|\()?", bare):
        name, behind = found[1], found[2] or ""
        if (
            behind == "("
            or name in WORDS
            or bare[: found.start()].count("{") > bare[: found.start()].count("}")
        ):
            continue
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", behind))


def grouped_by(expression: str) -> set[str]:
    groups = re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", expression)
    return {label.strip() for group in groups for label in group.split(",") if label.strip()}


def legend_labels(text: str) -> set[str]:
    return set(re.findall(r"\{\{\s*(?:\$labels\.)?([a-z_]+)\s*\}\}", text))


def wrong(expression: str, exposed: dict[str, set[str]], *texts: str) -> list[str]:
    """What an expression, or the texts that name its labels, takes from nowhere."""
    metrics = dict(uses(expression))
    unknown = [name for name in metrics if name not in exposed]
    labels = set().union(*(exposed.get(name, set()) for name in metrics))
    for name, selected in metrics.items():
        unknown += [f"{name}{{{label}}}" for label in selected - exposed.get(name, set())]
    unknown += sorted(grouped_by(expression) - labels)
    kept = grouped_by(expression) or labels
    unknown += [f"text: {label}" for text in texts for label in legend_labels(text) - kept]
    return unknown


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("glimpse_ready == 0", []),
        ("glimpse_redy == 0", ["glimpse_redy"]),
        ('rate(glimpse_refused_total{reason=~"a|b",instance="{}"}[5m]) > 0.1', []),
        ('rate(glimpse_refused_total{cause="a"}[5m])', ["glimpse_refused_total{cause}"]),
        ("sum by (reson) (rate(glimpse_refused_total[5m]))", ["reson"]),
        ("histogram_quantile(0.9, sum by (le) (rate(glimpse_queue_seconds_bucket[1m])))", []),
        ("rate(glimpse_refused[5m])", ["glimpse_refused"]),
        ("glimpse_queue_seconds > 1", ["glimpse_queue_seconds"]),
        ("sum by (name) (glimpse_model_unloads_total)", []),
        ("glimpse_queue_depth / glimpse_queue_limt", ["glimpse_queue_limt"]),
    ],
)
def test_check_of_expressions_finds_what_does_not_exist(
    exposed: dict[str, set[str]], expression: str, found: list[str]
) -> None:
    assert wrong(expression, exposed) == found


def test_alert_rules_name_what_the_service_exposes_and_tell_what_to_do(
    repository: Path, exposed: dict[str, set[str]]
) -> None:
    groups = load(repository / "deploy/prometheus/alerts.yml")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    names = [rule["alert"] for rule in rules]
    assert len(set(names)) == len(names) >= 12
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        notes = rule["annotations"]
        assert wrong(rule["expr"], exposed, *notes.values()) == [], rule["alert"]
        assert rule["labels"]["severity"] in RECOMMENDED_LABELS
        assert set(notes) == {"summary", "description", "runbook"}
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))


def test_alert_reasons_are_problems_of_the_service(
    repository: Path, client: TestClient, exposed: dict[str, set[str]]
) -> None:
    text = (repository / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8")
    assert "reason" in exposed["glimpse_refused_total"]
    known = set(re.findall(r'glimpse_refused_total\{reason="([^"]+)"', client.get("/metrics").text))
    named = {each for found in re.findall(r'reason=~"([^"]+)"', text) for each in found.split("|")}
    assert named
    assert named <= known


def test_alert_settings_in_runbooks_exist(repository: Path) -> None:
    text = (repository / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8")
    settings = (repository / "docs/settings.md").read_text(encoding="utf-8")
    named = set(re.findall(r"GLIMPSE_[A-Z_]+", text))
    assert named
    assert [name for name in sorted(named) if f"`{name}`" not in settings] == []


def test_dashboard_names_what_the_service_exposes(
    repository: Path, exposed: dict[str, set[str]]
) -> None:
    board = json.loads(
        (repository / "deploy/grafana/dashboards/glimpse.json").read_text(encoding="utf-8")
    )
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in panels:
        assert panel["datasource"] == {"type": "prometheus", "uid": "prometheus"}
        for target in panel["targets"]:
            found = wrong(target["expr"], exposed, target["legendFormat"])
            assert found == [], (panel["title"], found)
    for note in board["annotations"]["list"]:
        assert wrong(note["expr"], exposed, note["titleFormat"]) == []
    (variable,) = board["templating"]["list"]
    metric, label = re.fullmatch(
        r"label_values\((\w+), (\w+)\)", variable["query"]["query"]
    ).groups()  # type: ignore[union-attr]
    assert label in exposed[metric]


def test_dashboard_shows_every_metric_of_the_service_but_a_few(
    repository: Path, exposed: dict[str, set[str]]
) -> None:
    text = (repository / "deploy/grafana/dashboards/glimpse.json").read_text(encoding="utf-8")
    text += (repository / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8")
    families = {
        re.sub(r"_(?:total|bucket|sum|count|created)$", "", name)
        for name in exposed
        if name.startswith("glimpse_")
    }
    left_out = {"glimpse_model_load_seconds"}
    assert {name for name in families if name not in text} - left_out == set()


def test_dashboard_panels_do_not_lie_on_each_other(repository: Path) -> None:
    board = json.loads(
        (repository / "deploy/grafana/dashboards/glimpse.json").read_text(encoding="utf-8")
    )
    cells: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert x < 24
                assert (x, y) not in cells, panel["title"]
                cells.add((x, y))


# -- compose ----


@pytest.fixture(scope="module")
def compose(repository: Path) -> Any:
    return load(repository / "docker-compose.yml")


SERVICE_KEYS = {
    *("build", "image", "ports", "environment", "read_only", "tmpfs", "mem_limit", "pids_limit"),
    *("cap_drop", "security_opt", "init", "restart", "stop_grace_period", "profiles", "command"),
    *("volumes", "depends_on", "user"),
}


def test_compose_has_only_keys_that_compose_knows(compose: Any) -> None:
    assert set(compose) == {"services", "volumes"}
    for service in compose["services"].values():
        assert set(service) <= SERVICE_KEYS


def test_compose_every_service_is_unprivileged_read_only_and_bounded(compose: Any) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"mem_limit", "pids_limit"} <= set(service), name
        assert not {"privileged", "cap_add", "network_mode", "pid", "devices"} & set(service), name
        user = str(service.get("user", ""))  # glimpse's own stands in the Dockerfile
        assert not user.startswith(("0", "root")), name
        for volume in service.get("volumes", []):
            source, _, target = volume.partition(":")
            assert not source.startswith(".") or target.endswith(":ro"), volume
            assert "docker.sock" not in volume


def test_compose_images_of_others_are_pinned_to_a_version(compose: Any) -> None:
    for name, service in compose["services"].items():
        if "build" not in service:
            assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"]), name


def test_compose_monitoring_comes_only_when_asked_for_and_on_loopback(compose: Any) -> None:
    assert "profiles" not in compose["services"]["glimpse"]
    for name in ("prometheus", "grafana"):
        service = compose["services"][name]
        assert service["profiles"] == ["monitoring"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_compose_mounts_files_that_exist_where_they_are_looked_for(
    compose: Any, repository: Path
) -> None:
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (repository / source).is_dir()
            else:
                assert source in compose["volumes"]
    config = load(repository / "deploy/prometheus/prometheus.yml")
    assert config["rule_files"] == ["/etc/prometheus/alerts.yml"]
    (job,) = [job for job in config["scrape_configs"] if job["job_name"] == "glimpse"]
    assert job["static_configs"] == [{"targets": ["glimpse:8000"]}]
    source = load(repository / "deploy/grafana/provisioning/datasources/prometheus.yml")
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    assert source["datasources"][0]["uid"] == "prometheus"
    board = load(repository / "deploy/grafana/provisioning/dashboards/glimpse.yml")
    assert board["providers"][0]["options"]["path"] == "/etc/grafana/dashboards"


def test_compose_keeps_jobs_in_a_volume_that_the_service_may_write(
    compose: Any, repository: Path
) -> None:
    service = compose["services"]["glimpse"]
    folder = service["environment"]["GLIMPSE_JOBS_FOLDER"]
    assert f"jobs:{folder}" in service["volumes"]
    made = re.search(
        rf"install --directory --owner=glimpse .* {re.escape(folder)}$",
        (repository / "Dockerfile").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert made is not None


def test_grafana_lets_anyone_on_this_machine_look_and_nobody_change(compose: Any) -> None:
    settings = compose["services"]["grafana"]["environment"]
    assert settings["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert settings["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert settings["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert not any("PASSWORD" in name for name in settings)
