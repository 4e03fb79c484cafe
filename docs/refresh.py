"""Write what the documentation shows of the shipped model, from what it really answers: run after its weights change.

    .venv/bin/python docs/refresh.py

It serves the shipped weights on a free port, and rewrites in README.md what stands between `<!-- begin ... -->` and
`<!-- end -->`; docs/images/overlay-cat.jpg; app/web/examples.json; and tests/golden/openapi.json, which shows those.
"""

import json
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
PHOTOS = ("cat", "coffee", "astronaut", "rocket")
METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr-D")
PUBLISHED = {"BLEU-4": 0.195, "METEOR": 0.1893}  # Xu et al. 2015, table 1


@contextmanager
def serving() -> Iterator[str]:
    """Run the service; give its "localhost:port" once it is ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "app", "serve", "--port", str(port)], cwd=ROOT)
    try:
        patient = ["curl", "-sf", "--retry", "120", "--retry-delay", "1", "--retry-all-errors"]
        subprocess.run([*patient, f"localhost:{port}/readyz"], stdout=subprocess.DEVNULL, check=True)
        yield f"localhost:{port}"
    finally:
        process.terminate()
        process.wait()


def curl(command: str, address: str) -> bytes:
    """Run a command of the README against the service at `address`; give the answer's body."""
    words = shlex.split(command.replace("localhost:8000", address))
    return subprocess.run([*words, "-sS"], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout


def shorten_map(record: dict[str, Any]) -> dict[str, Any]:
    """Leave the first two numbers of a word's map; "…" stands for the rest."""
    return record | {"alpha": [[*record["alpha"][0][:2], "…"], "…"]} if "alpha" in record else record


def layout(value: Any, width: int, indent: int = 0) -> str:
    """Write JSON in as few lines as the width allows."""
    line = json.dumps(value, ensure_ascii=False)
    if indent + len(line) <= width or not isinstance(value, dict | list):
        return line
    named = [(f"{json.dumps(key)}: ", each) for key, each in value.items()] if isinstance(value, dict) else None
    parts = [name + layout(each, width, indent + 2) for name, each in named or [("", each) for each in value]]
    margin = "\n" + " " * indent
    return line[0] + ",".join(f"{margin}  {part}" for part in parts) + margin + line[-1]


def caption_table(address: str) -> str:
    """The photos of docs/images over their captions, as Markdown."""
    asked = [f"curl -F image=@docs/images/{photo}.jpg localhost:8000/caption" for photo in PHOTOS]
    captions = [json.loads(curl(command, address))["caption"] for command in asked]
    pictures = [f'<img src="docs/images/{photo}.jpg" width="200" alt="{photo}">' for photo in PHOTOS]
    return "\n".join(f"| {' | '.join(row)} |" for row in (pictures, ["---"] * len(PHOTOS), captions))


def quality_table() -> str:
    """The scores of metrics.json as Markdown, times 100, beside the paper's; "–" for what was not measured."""
    measured = json.loads((ROOT / "weights" / "soft-attention" / "metrics.json").read_text(encoding="utf-8"))
    sets = measured.get("sets", {})
    rows = {
        "Flickr8k test, 1,000 photos": sets.get("flickr8k test", {}),
        "everyday, 300 photos": sets.get("everyday", {}),
        "Flickr8k test, as the paper published it": PUBLISHED,
    }
    lines = [f"| | {' | '.join(METRICS)} |", "|---" * (len(METRICS) + 1) + "|"]
    for title, values in rows.items():
        cells = [f"{100 * values[name]:.1f}" if name in values else "–" for name in METRICS]
        lines.append(f"| {' | '.join([title, *cells])} |")
    beam_size, tokeniser = measured.get("decoding", {}).get("beam_size", "–"), measured.get("tokeniser", "–")
    return "\n".join([*lines, "", f"Ours: beam size {beam_size}; tokeniser: {tokeniser}."])


def examples(address: str) -> dict[str, Any]:
    """The examples of the API's documentation."""
    caption, attention = (json.loads(curl(f"{CAT}/{path}", address)) for path in ("caption", "attention"))
    models, metrics = (curl(f"curl localhost:8000/{path}", address).decode() for path in ("models", "metrics"))
    lines = re.findall(r'^(?:# \w+ )?glimpse_http_requests_total(?: .*|.*"/caption".*"200".*)$', metrics, re.MULTILINE)
    attention["words"] = attention["words"][:2]
    return {"caption": caption, "attention": attention, "models": json.loads(models), "metrics": lines}


def main() -> None:
    """Rewrite everything."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    with serving() as address:

        def answer(found: re.Match[str]) -> str:
            document = json.loads(curl(found[2], address), object_hook=shorten_map)
            return f"{found[1]}\n```json\n{layout(document, 118)}\n```\n<!-- end -->"

        asked = r"(```bash\n(curl [^`]*)```\n\n<!-- begin answer -->).*?<!-- end -->"
        readme = re.sub(asked, answer, readme, flags=re.DOTALL)
        for name, table in (("captions", caption_table(address)), ("quality", quality_table())):
            before, rest = readme.split(f"<!-- begin {name} -->\n")
            readme = f"{before}<!-- begin {name} -->\n{table}\n{rest[rest.index('<!-- end -->') :]}"
        overlay = Image.open(BytesIO(curl(f"{CAT}/attention?format=png", address)))
        overlay.thumbnail((1200, overlay.height))
        shown = layout(examples(address), 200)
    overlay.save(ROOT / "docs" / "images" / "overlay-cat.jpg", quality=88, optimize=True)
    (ROOT / "README.md").write_text(readme, encoding="utf-8")
    (ROOT / "app" / "web" / "examples.json").write_text(shown + "\n", encoding="utf-8")
    document = subprocess.check_output([sys.executable, "-m", "app", "openapi"], cwd=ROOT)
    (ROOT / "tests" / "golden" / "openapi.json").write_bytes(document)


if __name__ == "__main__":
    main()
