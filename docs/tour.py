"""Runs docs/tour.ipynb, and writes what it showed as docs/tour.md with its figures.

    .venv/bin/python -m docs.tour

The notebook is kept without outputs: they are on the page, for those who read without running.
"""

import base64
import os
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

__all__ = ["NOTEBOOK", "PAGE", "code_cells", "page_of", "run_notebook"]

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "docs" / "tour.ipynb"
PAGE = ROOT / "docs" / "tour.md"
_TIMEOUT_SECONDS = 300
_BEGINNING = "<!-- Written by docs/tour.py from docs/tour.ipynb. -->\n"


def run_notebook() -> Any:
    """Run the notebook in a kernel of its own, in its folder; give it with its outputs.

    Raises nbclient's CellExecutionError where a cell fails.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(
        notebook,
        timeout=_TIMEOUT_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
    )
    return client.execute(env={**os.environ, "PYTHONPATH": str(ROOT)})


def code_cells(notebook: Any) -> list[str]:
    """Give the notebook's code, cell by cell."""
    return [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]


def page_of(notebook: Any, images: Path) -> str:
    """Write a notebook that was run as Markdown; its figures go to `images` as tour-N.jpg."""
    parts = [_BEGINNING]
    count = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            parts.append(cell["source"])
            continue
        parts.append(f"```python\n{cell['source']}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                count += 1
                name = f"tour-{count}.jpg"
                _save(data["image/png"], images / name)
                parts.append(f"![{cell['metadata']['alt']}](images/{name})")
            else:
                text = output.get("text") or data.get("text/plain", "")
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _save(png_base64: str, path: Path) -> None:
    image = Image.open(BytesIO(base64.b64decode(png_base64))).convert("RGB")
    image.save(path, quality=86, optimize=True)


def main() -> None:
    """Run the notebook and write the page."""
    for old in (ROOT / "docs" / "images").glob("tour-*.jpg"):
        old.unlink()
    page = page_of(run_notebook(), ROOT / "docs" / "images")
    PAGE.write_text(re.sub(r"\n{3,}", "\n\n", page), encoding="utf-8")


if __name__ == "__main__":
    main()
