"""Training for real: drawn shapes are learnt, and a killed run goes on to the same weights."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.captioner import TorchCaptioner
from models.captioning import build_model
from models.checkpoint import load_checkpoint, save_checkpoint
from models.preprocessing import DecodeLimits
from training.cli import model_config
from training.config import TrainConfig, load_config
from training.distributed import Processes
from training.experiment import Experiment, read_experiment
from training.pictures import PictureReader
from training.progress import Journal
from training.synthetic import generate, write
from training.trainer import Trainer

_STAGES = """
[[stages]]
kind = "language"
epochs = 1
batch_size = 16
[[stages]]
kind = "frozen"
epochs = 2
batch_size = 8
[[stages]]
kind = "finetune"
epochs = 2
batch_size = 8
augment = true
"""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Results are compared to the last bit, and these networks are too small for two threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def experiment_file(repository: Path, folder: Path, *, stages: str | None = None) -> Path:
    """The shipped experiment on shapes, with other stages where given."""
    text = (repository / "training" / "configs" / "shapes.toml").read_text(encoding="utf-8")
    if stages is not None:
        text = text[: text.index("[[stages]]")] + stages
    path = folder / "shapes.toml"
    path.write_text(text, encoding="utf-8")
    return path


def trainer(config: TrainConfig, data: Experiment, journal: Journal) -> Trainer:
    """A trainer as the command line builds it."""
    torch.manual_seed(config.seed)
    described = model_config(config, len(data.vocabulary))
    reader = PictureReader(described.preprocess, 0)
    return Trainer(config, data, build_model(described), reader, Processes.join("cpu"), journal)


class Kill(BaseException):
    """Stands for SIGKILL at a step; nothing in the code under test may catch it."""


class DeadlyJournal(Journal):
    """Kills the run at its n-th step."""

    def __init__(self, folder: Path, steps_to_live: int) -> None:
        super().__init__(folder, speaks=True)
        self.steps_to_live = steps_to_live

    def step(self, tag: str, **values: float) -> None:
        super().step(tag, **values)
        if self.steps == self.steps_to_live:
            raise Kill


def test_trainer_killed_in_every_stage_ends_with_the_weights_of_an_unbroken_run(
    repository: Path, tmp_path: Path
) -> None:
    write(tmp_path / "data" / "shapes", train_count=40, dev_count=6, seed=3, size_pixels=56)
    config = load_config(experiment_file(repository, tmp_path, stages=_STAGES), tmp_path / "data")
    every_step = config.model_copy(update={"checkpoint_minutes": 1e-9})
    data = read_experiment(config, lambda _: None)

    unbroken = trainer(config, data, Journal(tmp_path / "unbroken", speaks=True)).run()

    for steps_to_live in (2, 4, 6, 8):  # 25 steps in all: it dies in the language, frozen and finetune stages
        with pytest.raises(Kill):
            trainer(every_step, data, DeadlyJournal(tmp_path / "broken", steps_to_live)).run()
    broken = trainer(every_step, data, Journal(tmp_path / "broken", speaks=True)).run()

    assert unbroken.keys() == broken.keys()
    for name, tensor in unbroken.items():
        assert torch.equal(tensor, broken[name]), name


@pytest.fixture(scope="module")
def shapes(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> TorchCaptioner:
    """The shipped experiment on shapes, trained as its file says."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("shapes")
    write(folder / "data" / "shapes", train_count=2500, dev_count=60, seed=0, size_pixels=112)
    config = load_config(experiment_file(repository, folder), folder / "data")
    data = read_experiment(config, lambda _: None)
    best = trainer(config, data, Journal(folder / "run", speaks=True)).run()
    torch.set_num_threads(threads)
    described = model_config(config, len(data.vocabulary))
    model = build_model(described)
    model.load_state_dict(best)
    save_checkpoint(folder / "weights" / "shapes", model, described, data.vocabulary, {})
    return TorchCaptioner(load_checkpoint(folder / "weights" / "shapes"))


def captioned(captioner: TorchCaptioner, count: int) -> list[tuple[Any, Any]]:
    """Fresh pictures, which training never saw, and what is said of them, through files as an upload comes."""
    photos = generate(count, seed=1234, size_pixels=200)
    images = [captioner.prepare(as_png(photo.image), DecodeLimits()) for photo in photos]
    return list(zip(photos, captioner.caption(images, captioner.info.config.decoding), strict=True))


def as_png(image: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_trainer_on_shapes_captions_fresh_pictures_truly(shapes: TorchCaptioner) -> None:
    pairs = captioned(shapes, 100)
    true = sum(caption.hypotheses[0].text in photo.captions for photo, caption in pairs)
    assert true >= 80, [(caption.hypotheses[0].text, photo.captions) for photo, caption in pairs[:10]]


def test_trainer_on_shapes_looks_at_the_circle_when_it_says_circle(shapes: TorchCaptioner) -> None:
    inside, peaks, areas = [], [], []
    for photo, caption in captioned(shapes, 100):
        for word in caption.hypotheses[0].words:
            if word.text == "circle" and "circle" in photo.boxes:
                mask = cells_in(photo.boxes["circle"], word.alpha.shape)
                inside.append(float(word.alpha[mask].sum()))
                peaks.append(bool(mask.flat[int(word.alpha.argmax())]))
                areas.append(float(mask.mean()))
    assert len(inside) > 40
    assert np.mean(peaks) > 0.8
    assert np.mean(inside) > 3 * np.mean(areas)


def cells_in(box: tuple[float, float, float, float], shape: tuple[int, ...]) -> np.ndarray:
    """Mark the cells that a box (in fractions of the picture) touches."""
    rows, columns = shape
    top, bottom = np.arange(rows) / rows, (np.arange(rows) + 1) / rows
    left, right = np.arange(columns) / columns, (np.arange(columns) + 1) / columns
    vertical = (bottom > box[1]) & (top < box[3])
    horizontal = (right > box[0]) & (left < box[2])
    return np.outer(vertical, horizontal)
