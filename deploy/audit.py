"""Asks the advisory database of the Python packages for known vulnerabilities of every pin: `make
audit`. Needs the network.

Ends with 0 where every pin was looked up and nothing is known, with 1 where something is, and with
2 where any pin could not be looked up: silence is no good news.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from deploy.pins import direct_requirements, pinned

__all__ = ["main", "verdict"]

_EXTRAS = ("train", "tracing", "parquet", "ray", "docs", "bench", "dev")
_FOUND, _NOT_AUDITED = 1, 2


def verdict(report: dict[str, Any]) -> tuple[int, list[str]]:
    """Read a report of pip-audit: the exit code, and what to tell a person."""
    packages = report["dependencies"]
    found = [
        f"{package['name']} {package['version']}: {each['id']}, fixed in "
        f"{', '.join(each['fix_versions']) or 'no version yet'}"
        for package in packages
        for each in package.get("vulns", [])
    ]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if found:
        return _FOUND, [*found, f"{len(found)} known vulnerabilities in {len(packages)} pins."]
    if skipped or not packages:
        return _NOT_AUDITED, [
            f"Not audited: {len(skipped)} of {len(packages)} pins could not be looked up "
            f"({', '.join(skipped[:3])} …). The package index used here may have no advisories."
        ]
    return 0, [f"No known vulnerability in {len(packages)} pins."]


def main() -> int:
    """Audit every pin and print the verdict."""
    pins = pinned(direct_requirements(*_EXTRAS))
    with tempfile.TemporaryDirectory() as folder:
        pins_file = Path(folder) / "pins.txt"
        pins_file.write_text(
            "".join(f"{name}=={version}\n" for name, version in sorted(pins.items())),
            encoding="utf-8",
        )
        command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip"]
        command += ["--requirement", str(pins_file), "--format", "json"]
        command += ["--progress-spinner", "off"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        code, lines = verdict(json.loads(done.stdout))
    except ValueError:
        reason = (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        code = _NOT_AUDITED
        lines = [f"Not audited: the advisories cannot be reached from here. {reason[:300]}"]
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
