"""The seams that no import rule can hold: nobody reaches past the captioner, and the shapes of
answers need no torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.unit.repository import ROOT, python_modules

OUTSIDE_THE_LIBRARY = ("app", "training", "evaluation", "benchmarks", "docs", "tests")
CAPTIONER = {
    "caption",
    "caption_features",
    "encode",
    "encode_pixels",
    "encoding",
    "grid",
    "info",
    "precision",
    "prepare",
    "runtime",
    "score_tokens",
    "token_ids",
}
"""All that those who caption, measure, calibrate, time or draw may ask of a captioner."""


def reaches_past_the_captioner(tree: ast.Module) -> Iterator[str]:
    """Find `.model.encoder`, `.model.decoder` and `.annotate`, each with its line."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value
        in_network = isinstance(owner, ast.Attribute) and owner.attr == "model"
        if node.attr == "annotate" or (in_network and node.attr in ("encoder", "decoder")):
            yield f"{node.lineno}: {ast.unparse(node)}"


def test_nobody_outside_the_library_reaches_past_the_captioner() -> None:
    found = [
        f"{name}:{reach}"
        for name, tree in python_modules(*OUTSIDE_THE_LIBRARY)
        for reach in reaches_past_the_captioner(tree)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("code", "reaches"),
    [
        ("captioner.model.encoder(pixels)", True),
        ("self.model.decoder.step(ids, state)", True),
        ("group[0].model.encoder.grid", True),
        ("captioner.annotate(pixels)", True),
        ("annotate = NetworkCaptioner.annotate", True),
        ("captioner.encode(images)", False),
        ("encoder(pixels)", False),
    ],
)
def test_reaches_past_the_captioner_are_found(code: str, reaches: bool) -> None:
    assert bool(list(reaches_past_the_captioner(ast.parse(code)))) == reaches


def public_attributes(tree: ast.Module, class_name: str) -> set[str]:
    """The methods and properties of a class, and what it sets on itself, without what is
    private."""
    (found,) = (
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name
    )
    names = {node.name for node in found.body if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(found):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return {name for name in names if not name.startswith("_")}


def test_captioner_offers_what_is_stated_and_no_more() -> None:
    tree = ast.parse((ROOT / "models" / "captioner.py").read_text(encoding="utf-8"))
    assert public_attributes(tree, "NetworkCaptioner") == CAPTIONER


@pytest.mark.parametrize("module", ["app.api.schemas", "app.core.settings", "models.caption"])
def test_module_that_needs_no_torch_does_not_load_it(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
