"""An architecture without values: what is loaded into it needs no random numbers first."""

import subprocess
import sys
from pathlib import Path

import torch

from models.bundles.outline import build_outline
from models.network import build_model
from tests.unit.toys import tiny_config

ROOT = Path(__file__).resolve().parents[2]


def test_outline_has_the_names_and_shapes_of_the_network_and_no_values() -> None:
    outline = build_outline(tiny_config()).state_dict()
    network = build_model(tiny_config()).state_dict()
    assert {name: tensor.shape for name, tensor in outline.items()} == {
        name: tensor.shape for name, tensor in network.items()
    }
    assert all(tensor.is_meta for tensor in outline.values())


def test_network_is_still_drawn_at_random_where_it_is_trained() -> None:
    build_outline(tiny_config())
    torch.manual_seed(0)
    weights = [weight for weight in build_model(tiny_config()).parameters() if weight.dim() > 1]
    assert all(weight.std() > 0 for weight in weights)


def test_outlines_of_the_shipped_models_do_not_import_pytorchs_compiler() -> None:
    code = """
import json, pathlib, sys
from models.bundles.outline import build_outline
from models.config import ModelConfig, migrate_config
for path in sorted(pathlib.Path("weights").glob("*/config.json")):
    build_outline(ModelConfig.model_validate(migrate_config(json.loads(path.read_text()))))
    assert "torch._dynamo" not in sys.modules, path
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)
