"""Write what the documentation shows of the shipped models, from what they really answer.

Run it after weights change:

    .venv/bin/python docs/refresh.py

It serves the shipped weights on a free port, and rewrites

* in README.md, what stands between `<!-- begin ... -->` and `<!-- end -->`;
* docs/images/overlay-cat.jpg;
* app/web/examples.json, and tests/golden/openapi.json, which shows it.

The README's scores are written by `glimpse-train table`.
"""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
CAT = "curl -F image=@docs/images/cat.jpg localhost:8000"
IMAGES = ("cat", "coffee", "astronaut", "rocket")
LEFT_OUT = {"…": "…"}
# Of a model's metrics, what the API's examples leave out: the model cards have it.
NOT_SHOWN = ("calibration", "maps")


@contextmanager
def serving() -> Iterator[str]:
    """Run the service; give its "localhost:port" once it is ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "serve", "--port", str(port)], cwd=ROOT
    )
    try:
        patient = ["curl", "-sf", "--retry", "120", "--retry-delay", "1", "--retry-all-errors"]
        subprocess.run(
            [*patient, f"localhost:{port}/readyz"], stdout=subprocess.DEVNULL, check=True
        )
        yield f"localhost:{port}"
    finally:
        process.terminate()
        process.wait()


def curl(command: str, address: str) -> bytes:
    """Run a command of the README against the service at `address`; give the answer's body."""
    words = shlex.split(command.replace("localhost:8000", address))
    return subprocess.run([*words, "-sS"], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout


def shell(script: str, address: str) -> str:
    """Run lines of the README against the service at `address`; give what they print.

    Python is this environment's.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    words = ["bash", "-euo", "pipefail", "-c", script.replace("localhost:8000", address)]
    return subprocess.check_output(words, cwd=ROOT, env={**os.environ, "PATH": path}, text=True)


def shorten(record: dict[str, Any]) -> dict[str, Any]:
    """Leave a map's first number, the test scores, the names of models; "…" for the rest."""
    if "alpha" in record:
        return record | {"alpha": [[record["alpha"][0][0], "…"], "…"]}
    if "sets" in record:
        tests = {name: scores for name, scores in record["sets"].items() if name.endswith(" test")}
        return {"sets": tests | LEFT_OUT} | LEFT_OUT
    if "models" in record:
        listed = [
            {key: each[key] for key in ("name", "default", "loaded")} | LEFT_OUT
            for each in record["models"]
        ]
        return {"models": listed}
    return record


def layout(value: Any, width: int, indent: int = 0) -> str:
    """Write JSON in as few lines as the width allows."""
    line = json.dumps(value, ensure_ascii=False)
    if indent + len(line) <= width or not isinstance(value, dict | list):
        return line
    if isinstance(value, dict):
        named = [(f"{json.dumps(key, ensure_ascii=False)}: ", each) for key, each in value.items()]
    else:
        named = [("", each) for each in value]
    parts = [name + layout(each, width, indent + 2) for name, each in named]
    margin = "\n" + " " * indent
    return line[0] + ",".join(f"{margin}  {part}" for part in parts) + margin + line[-1]


def caption_table(address: str) -> str:
    """Tabulate the images of docs/images over their captions, as Markdown."""
    asked = [f"curl -F image=@docs/images/{name}.jpg localhost:8000/caption" for name in IMAGES]
    captions = [json.loads(curl(command, address))["caption"] for command in asked]
    images = [f'<img src="docs/images/{name}.jpg" width="200" alt="{name}">' for name in IMAGES]
    return "\n".join(f"| {' | '.join(row)} |" for row in (images, ["---"] * len(IMAGES), captions))


def examples(address: str) -> dict[str, Any]:
    """Give the examples of the API's documentation: two models, the default one first."""
    caption = json.loads(curl(f"{CAT}/caption", address))
    attention = json.loads(curl(f"{CAT}/attention", address))
    models = curl("curl localhost:8000/models", address)
    metrics = curl("curl localhost:8000/metrics", address).decode()
    lines = re.findall(
        r'^(?:# \w+ )?glimpse_http_requests_total(?: .*|.*"/caption".*"200".*)$',
        metrics,
        re.MULTILINE,
    )
    attention["words"] = attention["words"][:2]
    listed = sorted(json.loads(models)["models"], key=lambda model: not model["default"])[:2]
    for model in listed:
        model["metrics"] = {
            name: value for name, value in model["metrics"].items() if name not in NOT_SHOWN
        }
    return {
        "caption": caption,
        "attention": attention,
        "models": {"models": listed},
        "metrics": lines,
    }


def main() -> None:
    """Rewrite everything."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    with serving() as address:

        def answer(found: re.Match[str]) -> str:
            document = json.loads(curl(found[2], address), object_hook=shorten)
            return f"{found[1]}\n```json\n{layout(document, 130)}\n```\n<!-- end -->"

        def output(found: re.Match[str]) -> str:
            return f"{found[1]}\n```console\n{shell(found[2], address)}```\n<!-- end -->"

        asked = r"(```bash\n(curl [^`]*)```\n\n<!-- begin answer -->).*?<!-- end -->"
        readme = re.sub(asked, answer, readme, flags=re.DOTALL)
        before, rest = readme.split("<!-- begin captions -->\n")
        after = rest[rest.index("<!-- end -->") :]
        readme = f"{before}<!-- begin captions -->\n{caption_table(address)}\n{after}"
        overlay = Image.open(BytesIO(curl(f"{CAT}/attention?format=png", address)))
        overlay.thumbnail((1200, overlay.height))
        shown = layout(examples(address), 200)
        asked = r"(```bash\n([^`]*)```\n\n<!-- begin side by side -->).*?<!-- end -->"
        readme = re.sub(asked, output, readme, flags=re.DOTALL)  # last: it loads every model
    overlay.save(ROOT / "docs" / "images" / "overlay-cat.jpg", quality=88, optimize=True)
    (ROOT / "README.md").write_text(readme, encoding="utf-8")
    (ROOT / "app" / "web" / "examples.json").write_text(shown + "\n", encoding="utf-8")
    document = subprocess.check_output([sys.executable, "-m", "app", "openapi"], cwd=ROOT)
    (ROOT / "tests" / "golden" / "openapi.json").write_bytes(document)


if __name__ == "__main__":
    main()
