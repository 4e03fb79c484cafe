"""Two encoders side by side, trained through the command line: the first is shared, the second is
the model's own."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

from evaluation.measures.lineage import describe_lineage
from evaluation.report.sections import lineage
from evaluation.results import Results
from models.bundles.checkpoint import load_checkpoint
from models.errors import ConfigError
from models.loading import load_captioner
from training.cli import app
from training.data.synthetic_shapes import write

_ONE = """
name = "one"
shared = { encoder = "inception-random" }
min_count = 1
captions_per_photo = 1

[architecture]
encoder = "inception_v3"
pretrained = false
embed_dim = 16
decoder_dim = 24
attention_dim = 8

[[train]]
name = "shapes"
kind = "jsonl"
root = "shapes"
captions = "train.jsonl"
split = "all"

[[dev]]
name = "shapes-dev"
kind = "jsonl"
root = "shapes"
captions = "dev.jsonl"
split = "all"

[[stages]]
kind = "frozen"
epochs = 1
batch_size = 4
learning_rate = 1e-9
ema_decay = 0.0
"""
_TWO = """
like = "one.toml"
name = "two"
borrow_from = "one"
precision = "float32"
shared = { encoder = "inception-random" }

[architecture]
encoder = "inception_v3+efficientnet_lite0"
pretrained = true
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shared_encoders: Path) -> Path:
    """A folder with a captioner of one encoder, and one of two that began from it, both
    exported."""
    folder = tmp_path_factory.mktemp("pair")
    write(folder / "shapes", train_count=8, dev_count=2, seed=3, size_pixels=112)
    (folder / "one.toml").write_text(_ONE, encoding="utf-8")
    (folder / "two.toml").write_text(_TWO, encoding="utf-8")
    for name in ("one", "two"):
        for command in ("train", "export"):
            arguments = [command, str(folder / f"{name}.toml"), "--data-folder", str(folder)]
            arguments += [
                "--runs-folder",
                str(folder / "runs"),
                "--weights-folder",
                str(folder / "weights"),
            ]
            arguments += ["--encoders-folder", str(shared_encoders)] if command == "train" else []
            result = CliRunner().invoke(app, arguments, catch_exceptions=False)
            assert result.exit_code == 0, result.output
    return folder


def decoder_weights(folder: Path, name: str) -> dict[str, Tensor]:
    """The decoder's tensors of a bundle, by name."""
    network = load_checkpoint(folder / "weights" / name).model
    return network.decoder.state_dict()


def test_pair_takes_the_sources_reading_and_is_blind_to_the_new_features_at_first(
    folder: Path,
) -> None:
    one, two = (decoder_weights(folder, name) for name in ("one", "two"))

    for name in (
        "lstm_context.weight",
        "attention.key.weight",
        "init_hidden.weight",
        "readout_context.weight",
    ):
        torch.testing.assert_close(two[name][:, :768], one[name], rtol=0, atol=1e-4)
        # zero, but for one epoch at a rate of nearly nothing
        assert two[name][:, 768:].abs().max() < 1e-4
    torch.testing.assert_close(two["normalise.weight"][768:], torch.ones(320), rtol=0, atol=1e-3)


def test_pair_export_keeps_the_second_network_and_shares_the_first(
    folder: Path, shared_encoders: Path
) -> None:
    own = load_file(folder / "weights" / "two" / "model.safetensors")
    published = load_file(shared_encoders / "efficientnet_lite0.safetensors")

    held = {name for name in own if name.startswith("encoder.")}
    assert held == {
        f"encoder.body.beside.{name}" for name in published if not name.startswith("head.")
    }
    for name in held:
        assert torch.equal(
            own[name].float(), published[name.removeprefix("encoder.body.beside.")].half().float()
        )
    assert (folder / "weights" / "two" / "SHA256SUMS").read_text(encoding="utf-8").count(
        "../shared/"
    ) == 1
    images = torch.randint(
        0, 256, (1, 3, 251, 251), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    with torch.inference_mode():
        one, two = (
            load_captioner(folder / "weights", name).encode_pixels(images).annotations
            for name in ("one", "two")
        )
    torch.testing.assert_close(two[..., :768], one)


def test_pair_lineage_tells_that_it_began_with_all_of_its_source(
    folder: Path, repository: Path
) -> None:
    networks = {name: load_checkpoint(folder / "weights" / name).model for name in ("one", "two")}
    text = (repository / "docs" / "results.json").read_text(encoding="utf-8")
    table = Results.model_validate_json(text).table
    assert table is not None

    described = describe_lineage(networks, folder)
    table = table.model_copy(update={"lineage": described})

    two = described["two"]
    assert two.decoder_share is not None
    assert two.encoder_share is not None
    # The rest are the columns that read the new features.
    assert 0.70 < two.decoder_share < 0.73
    assert two.new_parts == ()
    # Inception's share of both networks' parameters.
    assert 0.7 < two.encoder_share < 0.8
    assert "| `two` | that of `one`, and one more |" in lineage.section(Results(table=table))


def test_average_widens_a_captioner_of_the_first_encoder_alone(folder: Path) -> None:
    (folder / "mean.toml").write_text(
        _TWO.replace('name = "two"', 'name = "mean"'), encoding="utf-8"
    )
    places = ["--data-folder", str(folder), "--weights-folder", str(folder / "weights")]

    result = CliRunner().invoke(app, ["average", str(folder / "mean.toml"), "two", "one", *places])

    assert result.exit_code == 0, result.output
    one, two, mean = (decoder_weights(folder, name) for name in ("one", "two", "mean"))
    for name in ("lstm_context.weight", "attention.key.weight"):
        expected = torch.cat([(one[name] + two[name][:, :768]) / 2, two[name][:, 768:] / 2], dim=1)
        torch.testing.assert_close(mean[name], expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(
        mean["embedding.weight"], (one["embedding.weight"] + two["embedding.weight"]) / 2
    )


def test_average_of_the_first_encoder_alone_and_then_both_is_refused(folder: Path) -> None:
    places = ["--data-folder", str(folder), "--weights-folder", str(folder / "weights")]

    result = CliRunner().invoke(app, ["average", str(folder / "one.toml"), "one", "two", *places])

    assert isinstance(result.exception, ConfigError)
    assert "two and one differ in architecture or words" in str(result.exception)


def test_train_distilling_from_what_looks_through_another_encoder_is_refused(
    folder: Path, shared_encoders: Path
) -> None:
    stage = 'distil_from = ["one"]\n'
    (folder / "pupil.toml").write_text(
        _TWO.replace('name = "two"', 'name = "pupil"')
        + f'[[stages]]\nkind = "frozen"\nepochs = 1\n{stage}',
        encoding="utf-8",
    )
    places = ["--data-folder", str(folder), "--weights-folder", str(folder / "weights")]
    places += ["--runs-folder", str(folder / "runs"), "--encoders-folder", str(shared_encoders)]

    result = CliRunner().invoke(app, ["train", str(folder / "pupil.toml"), *places])

    assert isinstance(result.exception, ConfigError)
    assert "'one' looks through another encoder" in str(result.exception)
