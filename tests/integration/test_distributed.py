"""Two processes learn what one would: the messages between them on known numbers, and a whole run
by torchrun."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.network import build_model
from training.cli import train
from training.config import load_config
from training.data.synthetic_shapes import write
from training.distributed import Processes
from training.initialization import model_config, read_data
from training.run_state import load_state

WORKER = '''
"""Joins the group, sends known numbers through every method, and writes down what came back."""

import json
import sys
from pathlib import Path

import torch

from training.distributed import Processes
from training.losses import caption_loss

processes = Processes.join("cpu")
rank = processes.rank

torch.manual_seed(0)
inputs, targets = torch.randn(7, 4), torch.randint(5, (7,))
layer, unused = torch.nn.Linear(4, 5), torch.nn.Linear(2, 2)
mine = slice(0, 3) if rank == 0 else slice(3, 7)
loss = caption_loss(layer(inputs[mine]), targets[mine], label_smoothing=0.1)
loss = loss / processes.sum(len(targets[mine]))
loss.backward()
processes.sum_gradients([*layer.parameters(), *unused.parameters()])

texts = {0: [(0, "caf\\u00e9"), (2, ""), (4, "a cat " * 50)], 1: [(3, "a dog"), (1, "two")]}[rank]
result = {
    "world": processes.world,
    "first": processes.is_first,
    "device": str(processes.device),
    "sum": processes.sum(rank + 0.25),
    "large": processes.sum(2**40 + rank),
    "gradient": layer.weight.grad.tolist(),
    "unused": unused.weight.grad is None,
    "gathered": processes.gather(texts),
    "nothing": processes.gather([]),
    "from_one": processes.gather([(0, "alone")] if rank == 1 else []),
}
processes.wait()
Path(sys.argv[1], f"{rank}.json").write_text(json.dumps(result), encoding="utf-8")
processes.leave()
'''

EXPERIMENT = """
name = "{name}"
min_count = 1
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
beam_size = 1
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

[[stages]]
kind = "finetune"
epochs = 1
batch_size = {batch_size}
warmup_fraction = 0.0
alpha_c = 0.5
ema_decay = 0.0
augment = false
"""


def torchrun(repository: Path, *command: str) -> None:
    """Run a command in two processes of one thread each."""
    finished = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            *command,
        ],
        cwd=repository,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "PYTHONPATH": str(repository),
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr


def test_processes_alone_give_back_what_they_got(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    processes = Processes.join("cpu")
    weight = torch.ones(2, requires_grad=True)
    weight.sum().backward()
    processes.sum_gradients([weight])
    assert (processes.rank, processes.world, processes.is_first) == (0, 1, True)
    assert processes.sum(2.5) == 2.5
    assert processes.gather([(1, "b"), (0, "a")]) == [(0, "a"), (1, "b")]
    assert weight.grad is not None
    assert weight.grad.tolist() == [1.0, 1.0]
    processes.wait()
    processes.leave()


def test_processes_two_by_torchrun_add_up_known_numbers(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "worker.py").write_text(WORKER, encoding="utf-8")
    torchrun(repository, str(tmp_path / "worker.py"), str(tmp_path))
    results = [
        json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)
    ]
    assert [result.pop("first") for result in results] == [True, False]
    assert results[0] == results[1]

    torch.manual_seed(0)
    inputs = torch.randn(7, 4)
    targets = torch.randint(5, (7,))
    layer = torch.nn.Linear(4, 5)
    torch.nn.functional.cross_entropy(layer(inputs), targets, label_smoothing=0.1).backward()
    assert layer.weight.grad is not None
    torch.testing.assert_close(torch.tensor(results[0].pop("gradient")), layer.weight.grad)
    assert results[0] == {
        "world": 2,
        "device": "cpu",
        "sum": 1.5,
        "large": 2.0**41 + 1,
        "unused": True,
        "gathered": [[0, "café"], [1, "two"], [2, ""], [3, "a dog"], [4, "a cat " * 50]],
        "nothing": [],
        "from_one": [[0, "alone"]],
    }


def moved(folder: Path, name: str, *, batch_size: int, by: Path | None = None) -> torch.Tensor:
    """Train an epoch of all 32 images, here or by torchrun; give how far each weight moved, as one
    vector."""
    experiment = folder / f"{name}.toml"
    experiment.write_text(EXPERIMENT.format(name=name, batch_size=batch_size), encoding="utf-8")
    runs = folder / "runs"
    if by is None:
        train(
            experiment,
            data_folder=folder,
            encoders_folder=folder,
            runs_folder=runs,
            device="cpu",
        )
    else:
        flags = ["--data-folder", str(folder), "--encoders-folder", str(folder)]
        flags += ["--runs-folder", str(runs)]
        torchrun(by, "-m", "training", "train", str(experiment), *flags, "--device", "cpu")
    found = load_state(folder / "runs" / name / "state")
    assert found is not None
    assert found[1]["stage"] == 1
    assert len(found[1]["history"]) == 1

    config = load_config(experiment, folder)
    torch.manual_seed(config.seed)
    vocabulary = read_data(config, None, lambda _: None).vocabulary
    start = build_model(model_config(config, len(vocabulary))).state_dict()
    return torch.cat([(found[0]["best"][key] - tensor).flatten() for key, tensor in start.items()])


def test_training_by_two_processes_takes_the_step_that_one_would_with_the_whole_batch(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step over all images: in one batch of 32, or in two processes' batches of 16.

    Adam's first step is the sign of the gradient, which bfloat16 decides otherwise where it is next
    to nothing, so that the steps agree in direction and length, not in every digit.
    """
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    write(tmp_path / "shapes", train_count=32, dev_count=5, seed=0, size_pixels=56)
    alone = moved(tmp_path, "alone", batch_size=32)
    together = moved(tmp_path, "together", batch_size=16, by=repository)
    two_steps = moved(tmp_path, "two-steps", batch_size=16)  # what it must not be
    assert alone.norm() > 0
    assert float(torch.cosine_similarity(alone, together, dim=0)) > 0.95
    assert float(together.norm() / alone.norm()) == pytest.approx(1.0, abs=0.02)
    assert float(torch.cosine_similarity(alone, two_steps, dim=0)) < 0.95
