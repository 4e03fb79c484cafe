"""Writes the software bill of materials of the running service, CycloneDX as JSON: `make sbom`.

It lists what `pip install .` brings, not what trains, tests and lints beside it. Needs no network.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from deploy.pins import ROOT, closure, direct_requirements

__all__ = ["main", "only"]

_ROOT_REF = "root-component"


def only(document: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """Keep of a CycloneDX document the components of these canonical names, and what ties them."""
    components = [
        component
        for component in document["components"]
        if canonicalize_name(component["name"]) in names
    ]
    kept = {component["bom-ref"] for component in components} | {_ROOT_REF}
    dependencies = [
        {**each, "dependsOn": [ref for ref in each.get("dependsOn", []) if ref in kept]}
        for each in document["dependencies"]
        if each["ref"] in kept
    ]
    return {**document, "components": components, "dependencies": dependencies}


def main(path: Path) -> None:
    """Write the bill of what the service runs on to `path`."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", sys.executable]
    command += ["--pyproject", str(ROOT / "pyproject.toml"), "--output-format", "JSON"]
    command += ["--spec-version", "1.6", "--output-reproducible"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    document = only(json.loads(done.stdout), closure(direct_requirements()))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"{path}: {len(document['components'])} components")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
