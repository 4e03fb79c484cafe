"""Training for real: the shipped captioner learns drawn shapes, and a killed run goes on to the
same weights."""

import re
import tomllib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from models.caption import Caption
from models.captioner import NetworkCaptioner
from models.loading import load_captioner
from models.network import build_model
from models.preprocessing import DecodeLimits
from training.cli import app
from training.config import TrainConfig, load_config
from training.data.images import ImageReader
from training.data.synthetic_shapes import SyntheticImage, generate, write
from training.data.training_data import TrainingData
from training.distributed import Processes
from training.initialization import model_config, read_data
from training.run_log import RunLog
from training.trainer import Trainer

# 5 steps each and epoch, 25 in all
_EVERY_STAGE = """
name = "shapes"
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
dropout = 0.2

[decoding]
max_length = 12

[[train]]
name = "shapes"
kind = "jsonl"
root = "shapes"
captions = "train.jsonl"
split = "train"

[[dev]]
name = "shapes"
kind = "jsonl"
root = "shapes"
captions = "dev.jsonl"
split = "dev"

[[stages]]
kind = "language"
epochs = 1
batch_size = 16

[[stages]]
kind = "frozen"
epochs = 1
batch_size = 8
views = 2
scheduled_sampling = 0.25

[[stages]]
kind = "finetune"
epochs = 2
batch_size = 8

[[stages]]
kind = "self-critical"
epochs = 1
batch_size = 8
learning_rate = 1e-4
"""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Results are compared to the last bit, and these networks are too small for two threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trainer(config: TrainConfig, data: TrainingData, run_log: RunLog) -> Trainer:
    """A trainer as the command line builds it."""
    torch.manual_seed(config.seed)
    described = model_config(config, len(data.vocabulary))
    reader = ImageReader(described.preprocess, 0)
    model = build_model(described)
    processes = Processes.join("cpu")
    return Trainer(config, data, model, described, reader, processes, run_log)


class Kill(BaseException):
    """Stands for SIGKILL at a step; nothing in the code under test may catch it."""


class DeadlyRunLog(RunLog):
    """Kills the run after so many steps of its life."""

    def __init__(self, folder: Path, steps_to_live: int) -> None:
        super().__init__(folder, speaks=True)
        self.steps_to_live = steps_to_live

    def step(self, tag: str, **values: float) -> None:
        super().step(tag, **values)
        self.steps_to_live -= 1
        if self.steps_to_live == 0:
            raise Kill


def test_trainer_killed_in_every_stage_ends_with_the_weights_of_an_unbroken_run(
    tmp_path: Path,
) -> None:
    write(tmp_path / "data" / "shapes", train_count=40, dev_count=4, seed=3, size_pixels=56)
    (tmp_path / "shapes.toml").write_text(_EVERY_STAGE, encoding="utf-8")
    config = load_config(tmp_path / "shapes.toml", tmp_path / "data")
    every_step = config.model_copy(update={"checkpoint_minutes": 1e-9})
    data = read_data(config, None, lambda _: None)

    unbroken = trainer(config, data, RunLog(tmp_path / "unbroken", speaks=True)).run()

    # the step at which it dies is not saved: the next life takes it again
    for steps_to_live in (2, 6, 6, 5, 5):
        with pytest.raises(Kill):
            trainer(every_step, data, DeadlyRunLog(tmp_path / "broken", steps_to_live)).run()
    broken = trainer(every_step, data, RunLog(tmp_path / "broken", speaks=True)).run()

    assert unbroken.keys() == broken.keys()
    for name, tensor in unbroken.items():
        assert torch.equal(tensor, broken[name]), name


@pytest.fixture(scope="module")
def shapes(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> NetworkCaptioner:
    """The shipped experiment on shapes, drawn, trained and exported by the commands of the
    documentation."""
    folder = tmp_path_factory.mktemp("shapes")
    experiment = repository / "training" / "configs" / "shapes.toml"
    (folder / "weights").mkdir()
    start = tomllib.loads(experiment.read_text(encoding="utf-8"))["start_from"]
    (folder / "weights" / start).symlink_to(repository / "weights" / start)
    places = ["--data-folder", str(folder), "--runs-folder", str(folder / "runs")]
    places += ["--weights-folder", str(folder / "weights")]
    for command in (
        ["shapes", str(folder / "shapes")],
        ["train", str(experiment), *places],
        ["export", str(experiment), *places],
    ):
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    return load_captioner(folder / "weights", "shapes")


@pytest.fixture(scope="module")
def captioned(shapes: NetworkCaptioner) -> list[tuple[SyntheticImage, Caption]]:
    """Fresh images, which training never saw, and what is said of them, through files as an upload
    comes."""
    drawn = generate(100, seed=1234, size_pixels=200)
    images = [shapes.prepare(as_png(drawing.image), DecodeLimits()) for drawing in drawn]
    return list(zip(drawn, shapes.caption(images, shapes.info.config.decoding), strict=True))


def as_png(image: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.slow
def test_trainer_on_shapes_captions_fresh_images_truly(
    captioned: list[tuple[SyntheticImage, Caption]],
) -> None:
    said = [(caption.hypotheses[0].text, drawing.captions) for drawing, caption in captioned]
    true = sum(text in captions for text, captions in said)
    assert true >= 70, said[:10]


@pytest.mark.slow
def test_trainer_on_shapes_looks_at_the_circle_when_it_says_circle(
    captioned: list[tuple[SyntheticImage, Caption]],
) -> None:
    inside = []
    peaks = []
    areas = []
    for drawing, caption in captioned:
        for word in caption.hypotheses[0].words:
            if word.text == "circle" and "circle" in drawing.boxes:
                mask = caption.grid.coverage([drawing.boxes["circle"]]) > 0
                inside.append(float(word.alpha.reshape(-1)[mask].sum()))
                peaks.append(bool(mask[int(word.alpha.argmax())]))
                areas.append(float(mask.mean()))
    assert len(inside) > 40
    assert np.mean(inside) > 2.5 * np.mean(areas)  # against a map without a preference
    assert np.mean(peaks) > 0.5


@pytest.mark.parametrize("name", ["trainer.py", "optimizer.py"])
def test_training_loop_asks_no_stage_for_its_kind(repository: Path, name: str) -> None:
    """What a stage does differently stands in the stage's own file."""
    source = (repository / "training" / name).read_text(encoding="utf-8")
    for question in (r"kind\s*(==|!=|in\b|not in\b)", r"isinstance\([^)]*[sS]tage"):
        assert re.search(question, source) is None, question
