"""What `make audit` says of a report, what `make sbom` writes, and which tests run unless asked."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from deploy.audit import verdict
from deploy.pins import closure, direct_requirements
from deploy.sbom import only

FINE = {"name": "good", "version": "1.0", "vulns": []}
SKIPPED = {"name": "odd", "skip_reason": "Dependency not found"}
BAD = {
    "name": "bad",
    "version": "2.0",
    "vulns": [{"id": "CVE-1", "fix_versions": ["2.1"]}, {"id": "CVE-2", "fix_versions": []}],
}


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([FINE], 0, "No known vulnerability in 1 pins."),
        ([FINE, BAD], 1, "bad 2.0: CVE-1, fixed in 2.1"),
        ([SKIPPED, BAD], 1, "bad 2.0: CVE-2, fixed in no version yet"),
        ([FINE, SKIPPED], 2, "Not audited: 1 of 2 pins could not be looked up (odd …)."),
        ([], 2, "Not audited: 0 of 0 pins"),
    ],
)
def test_verdict_is_good_only_where_every_pin_was_looked_up(
    packages: list[dict[str, Any]], code: int, said: str
) -> None:
    found, lines = verdict({"dependencies": packages, "fixes": []})
    assert found == code
    assert said in "\n".join(lines)


def test_audit_without_network_says_so_and_is_no_success(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.audit"],
        cwd=repository,
        env={"HTTPS_PROXY": "http://127.0.0.1:9", "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout.startswith("Not audited: the advisories cannot be reached from here. ")
    assert "Traceback" not in done.stdout


def test_only_keeps_named_components_and_the_ties_among_them() -> None:
    document = {
        "bomFormat": "CycloneDX",
        "components": [
            {"name": "Kept_Name", "bom-ref": "kept==1"},
            {"name": "gone", "bom-ref": "gone==1"},
        ],
        "dependencies": [
            {"ref": "root-component", "dependsOn": ["gone==1", "kept==1"]},
            {"ref": "kept==1", "dependsOn": ["gone==1"]},
            {"ref": "gone==1"},
        ],
    }
    kept = only(document, {"kept-name"})
    assert [each["name"] for each in kept["components"]] == ["Kept_Name"]
    assert kept["dependencies"] == [
        {"ref": "root-component", "dependsOn": ["kept==1"]},
        {"ref": "kept==1", "dependsOn": []},
    ]
    assert kept["bomFormat"] == "CycloneDX"


@pytest.mark.slow
def test_bill_of_materials_lists_what_the_service_installs_and_is_valid(
    tmp_path: Path, repository: Path
) -> None:
    path = tmp_path / "folder" / "glimpse.cdx.json"
    subprocess.run(
        [sys.executable, "-m", "deploy.sbom", str(path)],
        cwd=repository,
        check=True,
        capture_output=True,
    )
    text = path.read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    names = {component["name"].lower().replace("_", "-") for component in document["components"]}
    assert names == closure(direct_requirements())
    assert {"openvino", "fastapi", "safetensors"} <= names
    assert not names & {"torch", "torchvision", "pytest", "mypy", "tensorboard", "schemathesis"}
    assert document["metadata"]["component"]["name"] == "glimpse"


def test_slow_tests_are_left_out_unless_asked_for(request: pytest.FixtureRequest) -> None:
    slow = [item.name for item in request.session.items if item.get_closest_marker("slow")]
    assert slow == [] or "slow" in request.config.getoption("markexpr")
