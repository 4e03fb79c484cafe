"""`glimpse-train` run in this process, on a small experiment in a folder of its own."""

import io
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from training.cli import main

EXPERIMENT = """
name = "tiny-shapes"
min_count = 1
max_length = 10
captions_per_photo = 2

[architecture]
encoder = "tiny"
size_pixels = 56
pretrained = false
embed_dim = 32
decoder_dim = 48
attention_dim = 32
dropout = 0.0

[decoding]
beam_size = 2
max_length = 10

[[train]]
name = "shapes"
kind = "jsonl"
root = "shapes"
split = "train"

[[dev]]
name = "shapes"
kind = "jsonl"
root = "shapes"
split = "dev"

[[test]]
name = "shapes"
kind = "jsonl"
root = "shapes"
split = "test"

[[stages]]
kind = "finetune"
epochs = 1
batch_size = 16
learning_rate = 3e-3
encoder_learning_rate = 2e-3
ema_decay = 0.0
augment = false
"""


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Place:
    """A folder with everything: the experiment, data/shapes, runs/ and weights/."""

    folder: Path

    @property
    def experiment(self) -> Path:
        return self.folder / "tiny-shapes.toml"

    @property
    def bundle(self) -> Path:
        return self.folder / "weights" / "tiny-shapes"

    def run(self, command: str, *options: str, experiment: Path | None = None) -> Answer:
        """Run a command on the experiment, its folders all below this one."""
        names = {
            "train": ["data", "encoders", "runs"],
            "export": ["data", "runs", "weights"],
            "evaluate": ["data", "weights"],
        }
        folders: list[str] = []
        for name in names[command]:
            folders += [f"--{name}-folder", str(self.folder / name)]
        return glimpse_train(command, str(experiment or self.experiment), *folders, *options)

    def variant(self, *changes: tuple[str, str]) -> Path:
        """Write the experiment anew with texts replaced."""
        text = EXPERIMENT
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = self.folder / "variant.toml"
        path.write_text(text, encoding="utf-8")
        return path


def glimpse_train(*arguments: str) -> Answer:
    """Run the command line in this process, on a machine without Java."""
    out = io.StringIO()
    err = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
            patch.delenv(name, raising=False)
        patch.setenv("PATH", "")
        patch.setattr(sys, "argv", ["glimpse-train", *arguments])
        with pytest.raises(SystemExit) as exited:
            main()
    code = exited.value.code
    return Answer(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


def drawn(folder: Path) -> Place:
    """A place with the experiment and its drawn images; the test set is the dev set under another
    name."""
    place = Place(folder)
    place.experiment.write_text(EXPERIMENT, encoding="utf-8")
    shapes = folder / "data" / "shapes"
    answer = glimpse_train(
        "shapes", str(shapes), "--train-count", "64", "--dev-count", "12", "--seed", "3"
    )
    assert answer.code == 0, answer.err
    shutil.copy(shapes / "dev.jsonl", shapes / "test.jsonl")
    return place
