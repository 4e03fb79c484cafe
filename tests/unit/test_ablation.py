"""What tags are worth: each kind is hidden alone, and what is left stays as it was."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from evaluation.jobs.ablation import AblationRequest, ablate
from evaluation.jobs.bundles import Messages
from evaluation.measures.ablation import VARIANTS, Variant, hide_tags, without_copying
from models.bundles.checkpoint import load_checkpoint, save_checkpoint
from models.errors import ConfigError
from models.features import ImageFeatures, Tags
from models.tagging.classes import FIRST_CONCEPT
from models.tokenizer import Vocabulary
from tests.unit.seeing_toys import KNOWN, photo_file, seeing_config, seeing_model
from tests.unit.toys import save_tiny_bundle

PHOTOS = {"coffee": "a cup of coffee on a table", "chelsea": "a cat"}
EXPERIMENT = """
name = "seeing"
[architecture]
encoder = "tiny"
size_pixels = 56
pretrained = false
[[train]]
name = "photos"
kind = "jsonl"
root = "photos"
split = "all"
[[dev]]
name = "photos"
kind = "jsonl"
root = "photos"
split = "all"
[[stages]]
kind = "frozen"
epochs = 1
"""


def features() -> ImageFeatures:
    """One image with an object, a concept, and a place without a tag."""
    classes = torch.tensor([[41, FIRST_CONCEPT + 3, 0]])
    scores = torch.tensor([[0.9, 0.4, 0.0]])
    places = torch.tensor([[[0.5, 0.5], [1.0, 0.0], [0.0, 0.0]]])
    return ImageFeatures(
        torch.ones(1, 2, 3), Tags.pack(classes, scores, torch.rand(1, 3, 4), places)
    )


@pytest.mark.parametrize(
    ("variant", "present"),
    list(zip(VARIANTS, [(0, 0), (1, 0), (0, 1), (1, 1), (1, 1)], strict=True)),
    ids=[variant.name for variant in VARIANTS],
)
def test_hide_tags_masks_what_a_variant_is_not_left(
    variant: Variant, present: tuple[int, int]
) -> None:
    whole = features()
    left = hide_tags(whole, variant)
    assert left.tags is not None
    assert whole.tags is not None
    assert left.tags.present[0].int().tolist() == [*present, 0]
    kept = left.tags.present[0]
    assert torch.equal(left.tags.values[0][kept], whole.tags.values[0][kept])
    assert whole.tags.present[0].tolist() == [True, True, False]  # it is a copy
    assert left.annotations is whole.annotations


def test_model_without_tags_has_nothing_to_leave_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="looks for no objects and concepts"):
        hide_tags(ImageFeatures(torch.ones(1, 2, 3)), VARIANTS[0])
    plain = load_checkpoint(save_tiny_bundle(tmp_path / "plain"))
    with pytest.raises(ConfigError, match="'plain' attends to no tags"):
        without_copying(plain)


def test_ablate_prints_each_variant_and_copying_a_concept_is_what_names_the_cat(
    tmp_path: Path, tagger_tensors: dict[str, Tensor]
) -> None:
    config = seeing_config("seeing")
    network = seeing_model(config, tagger_tensors)
    with torch.no_grad():  # whatever it looks at, it says
        network.get_parameter("decoder.tags.none.bias").fill_(-3.0)
        network.get_parameter("decoder.tags.gain").fill_(30.0)
    save_checkpoint(tmp_path / "weights" / "seeing", network, config, Vocabulary(KNOWN), {})
    folder = tmp_path / "data" / "photos"
    folder.mkdir(parents=True)
    lines = []
    for name, caption in PHOTOS.items():
        (folder / f"{name}.png").write_bytes(photo_file(name, (300, 200)))
        lines.append(json.dumps({"file": f"{name}.png", "captions": [caption] * 3}))
    (folder / "captions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    experiment = tmp_path / "seeing.toml"
    experiment.write_text(EXPERIMENT, encoding="utf-8")
    said: list[str] = []

    ablate(
        AblationRequest(
            experiment=experiment,
            data_folder=tmp_path / "data",
            weights_folder=tmp_path / "weights",
            precision="float32",
        ),
        Messages(say=said.append, warn=said.append),
    )

    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in said[-1].splitlines()}
    named = {variant.name: rows[variant.name][1].strip() for variant in VARIANTS}
    assert named == {
        "grid alone": "0.0",
        "with objects": "0.0",  # the detector takes the cat for a dog
        "with concepts": "50.0",
        "with both": "50.0",
        "with both, without copying": "0.0",
    }
