"""Shows files of the project's own folder as pages of the site: a hook of its builder.

The pages below docs/ that stand for them are one sentence, for those who read without the site.
"""

from pathlib import Path
from typing import Any

__all__ = ["ROOT_PAGES", "on_page_markdown"]

ROOT = Path(__file__).resolve().parent.parent
ROOT_PAGES = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Give the file that a page stands for, its links as they are from docs/."""
    name = ROOT_PAGES.get(page.file.src_uri)
    if name is None:
        return markdown
    return (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
