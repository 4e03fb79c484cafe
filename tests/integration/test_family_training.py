"""Every kind of decoder is trained, exported and loaded by the commands; a map with attention
targets learns where things are."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from models.bundles.checkpoint import load_checkpoint
from models.errors import ConfigError
from models.loading import load_captioner
from models.network import CaptioningModel
from models.preprocessing import DecodeLimits
from models.tokenizer import Vocabulary, tokenize
from training.cli import app
from training.data.flickr30k_entities import read_entities
from training.data.synthetic_shapes import write

_SETS = """
min_count = 1
max_length = 12
captions_per_photo = 2

[architecture]
encoder = "tiny"
size_pixels = 56
pretrained = false
embed_dim = 16
decoder_dim = 32
attention_dim = 16
dropout = 0.0

[decoding]
beam_size = 2
max_length = 12

[[train]]
name = "shapes"
kind = "jsonl"
root = "shapes"
captions = "train.jsonl"
entities = "entities.jsonl"
split = "train"

[[dev]]
name = "shapes"
kind = "jsonl"
root = "shapes"
captions = "dev.jsonl"
split = "dev"
"""
_BASE = f"""
name = "base"
shared = {{ encoder = "tiny-encoder", words = "shape-words" }}
{_SETS}
[[stages]]
kind = "finetune"
epochs = 2
batch_size = 8
learning_rate = 4e-3
"""
_MEMBER = """
like = "base.toml"
name = "{name}"
{begin}
shared = {{ encoder = "tiny-encoder", words = "shape-words" }}

[architecture]
{architecture}

[[stages]]
freeze_words = true
batch_size = 8
ema_decay = 0.9
{stage}
"""
_FROZEN = """kind = "frozen"
epochs = {epochs}
learning_rate = 4e-3
validate_every = {epochs}
"""
_TARGETS = "attention_loss_weight = 1.0\n"
_REWARDED = f"""kind = "self-critical"
epochs = 2
learning_rate = 2e-3
{_TARGETS}"""
_KINDS = {
    "nic": 'decoder = "nic"',
    "lrcn-unfactored": 'decoder = "lrcn-unfactored"',
    "lrcn-factored": 'decoder = "lrcn-factored"',
    "transformer": 'decoder = "transformer"\nlayers = 2\nheads = 4',
    "dot-product": 'attention = "dot-product"',
    "cosine": 'attention = "cosine"',
    "hard": 'attention = "hard"',
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(folder: Path, command: str, name: str) -> None:
    """Run a command of `glimpse-train` on an experiment in `folder`."""
    places = ["--data-folder", str(folder), "--runs-folder", str(folder / "runs")]
    places += ["--weights-folder", str(folder / "weights")]
    result = CliRunner().invoke(
        app, [command, str(folder / f"{name}.toml"), *places], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with drawn shapes, where their boxes are known as entities, and a base model trained
    on them."""
    folder = tmp_path_factory.mktemp("family")
    write(folder / "shapes", train_count=64, dev_count=4, seed=3, size_pixels=56)
    boxes = json.loads((folder / "shapes" / "boxes.json").read_text(encoding="utf-8"))
    text = (folder / "shapes" / "train.jsonl").read_text(encoding="utf-8")
    entities = [
        entities_line(line["file"], line["captions"], boxes[line["file"]])
        for line in map(json.loads, text.splitlines())
    ]
    (folder / "shapes" / "entities.jsonl").write_text(
        "\n".join(map(json.dumps, entities)), encoding="utf-8"
    )
    (folder / "base.toml").write_text(_BASE, encoding="utf-8")
    run(folder, "train", "base")
    run(folder, "export", "base")
    return folder


def entities_line(
    file: str, captions: list[str], boxes: dict[str, list[float]]
) -> dict[str, object]:
    """A line of entities.jsonl: the word of each shape is a phrase."""
    grounded = []
    for caption in captions:
        words = caption.split()
        phrases = [
            {"start": at, "end": at + 1, "entity": word, "types": ["other"]}
            for at, word in enumerate(words)
            if word in boxes
        ]
        grounded.append({"words": words, "phrases": phrases})
    return {
        "file": file,
        "captions": grounded,
        "boxes": {name: [box] for name, box in boxes.items()},
    }


def train_member(
    folder: Path, name: str, architecture: str, stage: str, begin: str = 'borrow_from = "base"'
) -> Path:
    """Train a member of the family by one stage, and export it."""
    text = _MEMBER.format(name=name, begin=begin, architecture=architecture, stage=stage)
    (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    run(folder, "train", name)
    run(folder, "export", name)
    return folder / "weights" / name


@pytest.mark.parametrize("name", _KINDS)
def test_family_member_trained_and_exported_captions_and_shares_what_is_frozen(
    trained: Path, name: str
) -> None:
    bundle = train_member(trained, name, _KINDS[name], _FROZEN.format(epochs=1))

    captioner = load_captioner(trained / "weights", name)
    base = load_captioner(trained / "weights", "base")
    images = torch.zeros(2, 3, 56, 56, dtype=torch.uint8)
    expected = base.encode_pixels(images).annotations
    assert torch.equal(captioner.encode_pixels(images).annotations, expected)
    model = load_checkpoint(bundle).model
    weights = model.state_dict()
    weights_of_base = load_checkpoint(trained / "weights" / "base").model.state_dict()
    for tensor in ("decoder.embedding.weight", "decoder.output.weight", "decoder.output.bias"):
        assert torch.equal(weights[tensor], weights_of_base[tensor])
    sums = (bundle / "SHA256SUMS").read_text(encoding="utf-8")
    assert "../shared/tiny-encoder.safetensors" in sums
    assert "../shared/shape-words.safetensors" in sums
    own = (bundle / "model.safetensors").stat().st_size
    whole = sum(tensor.numel() for tensor in model.parameters())
    assert own < 2 * whole  # half precision, and something lies elsewhere
    assert captioner.info.config.name == name


def mass_in_boxes(folder: Path, name: str) -> float:
    """The mean mass of the maps of the shapes' words inside their boxes, teacher-forced on training
    images."""
    captioner = load_captioner(folder / "weights", name)
    grounded = list(read_entities(folder / "shapes" / "entities.jsonl").items())[:40]
    masses = []
    for file, captions in grounded:
        image = captioner.prepare((folder / "shapes" / file).read_bytes(), DecodeLimits())
        ids = captioner.token_ids(captions[0].tokens)
        scores = captioner.score_tokens(captioner.encode([image]), [[ids]])[0][0]
        for phrase in captions[0].phrases:
            coverage = captioner.grid.coverage(phrase.boxes)
            masses.append(float((scores.alphas[phrase.start].reshape(-1) * coverage).sum()))
    return sum(masses) / len(masses)


def test_family_taught_maps_lie_on_the_things_that_their_words_name(trained: Path) -> None:
    frozen = _FROZEN.format(epochs=4)
    train_member(trained, "untaught", "", frozen)
    train_member(trained, "taught", "", frozen + _TARGETS)
    train_member(trained, "rewarded", "", _REWARDED, begin='start_from = "taught"')

    untaught = mass_in_boxes(trained, "untaught")
    assert mass_in_boxes(trained, "taught") > 1.5 * untaught
    assert mass_in_boxes(trained, "rewarded") > 1.5 * untaught  # kept while captions are rewarded


def test_family_pupil_comes_to_say_what_its_teacher_says(trained: Path) -> None:
    frozen = _FROZEN.format(epochs=3)
    led = 'distil_from = ["base"]\ndistil_weight = 1.0'
    train_member(trained, "unled", 'attention = "cosine"', frozen)
    train_member(trained, "led", 'attention = "cosine"', frozen + led)

    assert divergence(trained, "led", "base") < 0.7 * divergence(trained, "unled", "base")


def test_family_teacher_of_other_words_is_refused(trained: Path) -> None:
    text = _BASE.replace('name = "base"', 'name = "stranger"').replace(
        "min_count = 1", "min_count = 60"
    )
    text = text.replace('kind = "finetune"', 'kind = "frozen"\ndistil_from = ["base"]')
    (trained / "stranger.toml").write_text(text, encoding="utf-8")
    places = ["--data-folder", str(trained), "--weights-folder", str(trained / "weights")]

    result = CliRunner().invoke(
        app,
        ["train", str(trained / "stranger.toml"), *places, "--runs-folder", str(trained / "runs")],
    )

    assert isinstance(result.exception, ConfigError)
    assert "'base' has other words" in str(result.exception)


def divergence(folder: Path, name: str, teacher: str) -> float:
    """Mean over words of the people's captions of dev images of KL(teacher || model), in nats."""
    teaching, learnt = (
        load_checkpoint(folder / "weights" / each).model for each in (teacher, name)
    )
    captioner = load_captioner(folder / "weights", teacher)
    lines = (folder / "shapes" / "dev.jsonl").read_text(encoding="utf-8").splitlines()
    total: list[float] = []
    for line in map(json.loads, lines):
        image = captioner.prepare((folder / "shapes" / line["file"]).read_bytes(), DecodeLimits())
        annotations = captioner.encode([image]).annotations  # both look through one encoder
        ids = captioner.token_ids(tokenize(line["captions"][0]))
        expected = word_logprobs(teaching, annotations, ids)
        total += (expected.exp() * (expected - word_logprobs(learnt, annotations, ids))).sum(-1)
    return float(sum(total) / len(total))


@torch.inference_mode()
def word_logprobs(model: CaptioningModel, annotations: Tensor, ids: list[int]) -> Tensor:
    """Log-probabilities (T + 1, V) of every word after bos and each of the T ids."""
    inputs = torch.tensor([[Vocabulary.bos_id, *ids]])
    readout = model.decoder(inputs, model.decoder.init_state(annotations)).readout
    return model.decoder.logits(readout)[0].log_softmax(dim=-1)
