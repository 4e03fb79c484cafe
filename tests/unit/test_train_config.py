"""An experiment's TOML: what it says is what is run, and what is wrong in it is named."""

from pathlib import Path
from typing import Any

import pytest

from models.config import ModelConfig, PreprocessConfig
from models.errors import ConfigError
from training.config import ArchitectureConfig, load_config

MINIMAL = """
name = "try-one"
{top}
[[train]]
name = "own"
kind = "{kind}"
root = "photos"
split = "train"
{train}
[[dev]]
name = "own"
kind = "jsonl"
root = "photos"
split = "dev"
{sets}
[[stages]]
kind = "finetune"
epochs = 1
{stage}
[architecture]
{architecture}
[decoding]
{decoding}
"""


def write(folder: Path, **parts: str) -> Path:
    """Write an experiment that is right but for what is put into its `parts`."""
    names = ("top", "train", "sets", "stage", "architecture", "decoding")
    path = folder / "experiment.toml"
    path.write_text(
        MINIMAL.format(**{"kind": "jsonl", **dict.fromkeys(names, ""), **parts}), encoding="utf-8"
    )
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, Path("data"))
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_load_config_places_roots_below_the_data_folder_and_key_files_beside_the_toml(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, train='include_keys_file = "keys/in.txt"\nexclude_keys_file = "out.txt"')
    config = load_config(path, Path("somewhere") / "data")
    (train,), (dev,) = config.train, config.dev
    assert train.root == dev.root == Path("somewhere/data/photos")
    assert train.include_keys_file == tmp_path / "keys" / "in.txt"
    assert train.exclude_keys_file == tmp_path / "out.txt"
    assert dev.include_keys_file is None
    assert (config.text, config.test) == ((), ())


def test_load_config_absolute_root_stays(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(
        path.read_text(encoding="utf-8").replace('"photos"', f'"{tmp_path}"'), encoding="utf-8"
    )
    assert load_config(path, Path("data")).train[0].root == tmp_path


def test_load_config_text_and_test_sets_are_placed_too(tmp_path: Path) -> None:
    sets = "".join(
        f'[[{group}]]\nname = "more"\nkind = "{kind}"\nroot = "more"\nsplit = "all"\n'
        for group, kind in (("text", "captions"), ("test", "jsonl"))
    )
    config = load_config(write(tmp_path, sets=sets), Path("data"))
    assert config.text[0].root == config.test[0].root == Path("data/more")


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ({"top": "epochs = 5"}, "epochs"),
        ({"top": "min_count = 0"}, "min_count"),
        ({"top": "max_length = 51"}, "max_length"),
        ({"top": 'seed = "one"'}, "seed"),
        ({"kind": "imagenet"}, "train.0.kind"),
        ({"train": "weight = 0"}, "train.0.weight"),
        ({"train": 'color = "red"'}, "train.0.color"),
        ({"stage": "batch_size = 0"}, "stages.0.batch_size"),
        ({"stage": "learning_rate = -1.0"}, "stages.0.learning_rate"),
        ({"stage": "label_smoothing = 1.0"}, "stages.0.label_smoothing"),
        ({"stage": "views = 0"}, "stages.0.views"),
        ({"stage": "scheduled_sampling = 1.1"}, "stages.0.scheduled_sampling"),
        ({"stage": "distil_weight = 0.0"}, "stages.0.distil_weight"),
        ({"stage": 'distil_from = "one"'}, "stages.0.distil_from"),
        ({"stage": "warm_up = 0.1"}, "stages.0.warm_up"),
        ({"stage": "weights = { ovn = 1.5 }"}, "stages.0.weights: 'ovn'"),
        ({"stage": "weights = { own = 0.0 }"}, "stages.0.weights: 'own'"),
        ({"architecture": "dropout = 1.0"}, "architecture.dropout"),
        ({"architecture": "embed_dim = 0"}, "architecture.embed_dim"),
        ({"architecture": "decoder_dim = 0"}, "architecture.decoder_dim"),
        ({"architecture": "attention_dim = -3"}, "architecture.attention_dim"),
        ({"architecture": "size_pixels = 2000"}, "architecture.size_pixels"),
        ({"architecture": "encoder = 3"}, "architecture.encoder"),
        ({"decoding": "beam_size = 21"}, "decoding.beam_size"),
        ({"decoding": "beam_size = 2\nnum_captions = 3"}, "num_captions"),
    ],
)
def test_load_config_wrong_value_names_the_field(
    tmp_path: Path, parts: dict[str, str], field: str
) -> None:
    message = refusal(write(tmp_path, **parts))
    assert field in message
    assert "0 more" not in message


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("views = 2", "stages.0.views: is for stages of kind frozen, self-critical, not finetune"),
        (
            'distil_from = ["one"]',
            "stages.0.distil_from: is for stages of kind frozen, not finetune",
        ),
        (
            '[[stages]]\nkind = "frozen"\nepochs = 1\ndistil_weight = 0.9',
            "stages.1.distil_weight: there is nothing",
        ),
        (
            '[[stages]]\nkind = "frozen"\nepochs = 1\ndistil_from = ["one"]',
            "stages.1.distil_from: teachers see",
        ),
        (
            '[[stages]]\nkind = "self-critical"\nepochs = 1\nscheduled_sampling = 0.2',
            "stages.1.scheduled_sampling: is for stages of kind language, frozen, finetune, not "
            "self-critical",
        ),
        (
            '[[stages]]\nkind = "frozen"\nepochs = 1\nhide_encoder = 0.5',
            "stages.1.hide_encoder: without a tagger nothing",
        ),
        (
            '[[stages]]\nkind = "language"\nepochs = 1\nimagined_tags = true',
            "stages.1.imagined_tags: this decoder attends to no tags",
        ),
    ],
)
def test_load_config_stage_of_another_kind_than_an_option_needs_is_refused(
    tmp_path: Path, stage: str, expected: str
) -> None:
    assert expected in refusal(write(tmp_path, stage=stage))


@pytest.mark.parametrize(
    ("old", "new"),
    [("teach_weight = 1.0", "attention_loss_weight"), ("judge_every = 2", "validate_every")],
)
@pytest.mark.parametrize("kind", ["language", "frozen", "finetune", "self-critical"])
def test_load_config_old_name_of_a_key_is_refused_and_names_the_new_one(
    tmp_path: Path, old: str, new: str, kind: str
) -> None:
    stage = f'[[stages]]\nkind = "{kind}"\nepochs = 1\n{old}'
    expected = f"stages.1.{old.split()[0]}: is called {new} now."
    assert expected in refusal(write(tmp_path, stage=stage))


@pytest.mark.parametrize("kind", ["", 'kind = "frosen"'])
def test_load_config_stage_of_no_kind_names_the_kinds(tmp_path: Path, kind: str) -> None:
    message = refusal(write(tmp_path, stage=f"[[stages]]\n{kind}\nepochs = 1"))
    assert "stages.1.kind: must be one of language, frozen, finetune, self-critical" in message


def test_load_config_several_faults_are_counted(tmp_path: Path) -> None:
    assert "and 2 more" in refusal(write(tmp_path, top="seed = 'x'\nepochs = 5\nmin_count = 0"))


def test_load_config_without_stages_names_them(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(
        path.read_text(encoding="utf-8").replace("[[stages]]", "[stage]"), encoding="utf-8"
    )
    assert "stages" in refusal(path)


@pytest.mark.parametrize("group", ["train", "dev", "test"])
def test_load_config_captions_without_images_are_only_allowed_as_text(
    tmp_path: Path, group: str
) -> None:
    sets = f'[[{group}]]\nname = "words"\nkind = "captions"\nroot = "words"\nsplit = "all"'
    message = refusal(write(tmp_path, sets=sets))
    assert f"{group} set 'words'" in message
    assert "text" in message


@pytest.mark.parametrize(
    ("group", "split"),
    [("dev", "test"), ("test", "dev")],
    ids=["two dev sets of one name", "a dev and a test set of one name and split"],
)
def test_load_config_two_sets_of_one_name_that_would_hide_each_other_are_refused(
    tmp_path: Path, group: str, split: str
) -> None:
    sets = f'[[{group}]]\nname = "own"\nkind = "jsonl"\nroot = "others"\nsplit = "{split}"'
    assert "are called 'own" in refusal(write(tmp_path, sets=sets))


def test_load_config_dev_and_test_split_of_one_set_share_its_name(tmp_path: Path) -> None:
    sets = '[[test]]\nname = "own"\nkind = "jsonl"\nroot = "photos"\nsplit = "test"'
    assert load_config(write(tmp_path, sets=sets), Path("data")).test[0].name == "own"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"name = ", "TOML"),
        (b"[[train]\n", "TOML"),
        (b'name = "caf\xe9"\n', "UTF-8"),
        (b"", "name"),
    ],
)
def test_load_config_file_that_is_no_toml_says_so(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    assert expected in refusal(path)


def test_load_config_parts_without_a_bundle_to_borrow_them_from_are_refused(tmp_path: Path) -> None:
    assert "borrow_parts: there is no bundle" in refusal(
        write(tmp_path, top='borrow_parts = ["words"]')
    )
    assert "borrow_parts" in refusal(
        write(tmp_path, top='borrow_from = "one"\nborrow_parts = ["tail"]')
    )


def test_load_config_missing_file_or_folder_says_so(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "absent.toml")
    assert "directory" in refusal(tmp_path)


def test_architecture_config_accepts_what_the_model_accepts() -> None:
    """The bounds stand in both: a value that the one takes, the other must take as well."""
    edges: list[dict[str, Any]] = [
        {"size_pixels": 16, "dropout": 0.0, "embed_dim": 1, "decoder_dim": 1, "attention_dim": 1},
        {"size_pixels": 1024, "dropout": 0.999},
    ]
    for edge in edges:
        chosen = ArchitectureConfig(**edge)
        ModelConfig(
            name="x",
            encoder=chosen.encoder,
            vocab_size=5,
            preprocess=PreprocessConfig(
                size_pixels=chosen.size_pixels, mean=(0, 0, 0), std=(1, 1, 1)
            ),
            decoder=chosen.decoder_config(),
        )


def experiments(repository: Path) -> list[Path]:
    return sorted((repository / "training" / "configs").glob("*.toml"))


def test_shipped_experiments_are_valid_and_their_key_files_are_there(repository: Path) -> None:
    paths = experiments(repository)
    assert {"base", "glimpse", "shapes"} <= {path.stem for path in paths}
    for path in paths:
        config = load_config(path, Path("data"))
        assert config.name == path.stem
        for dataset in (*config.train, *config.dev, *config.text, *config.test):
            for keys in (dataset.include_keys_file, dataset.exclude_keys_file):
                assert keys is None or keys.is_file()


def test_shipped_experiments_begin_from_what_is_shipped_or_can_be_trained(repository: Path) -> None:
    weights = repository / "weights"
    names = {path.stem for path in experiments(repository)}
    for path in experiments(repository):
        config = load_config(path, Path("data"))
        begins = config.start_from or config.borrow_from
        assert (
            begins is None
            or begins in names - {path.stem}
            or (weights / begins / "config.json").is_file()
        ), path.name


def test_shipped_experiments_never_train_on_a_test_split(repository: Path) -> None:
    for path in experiments(repository):
        config = load_config(path, Path("data"))
        assert not {dataset.split for dataset in (*config.train, *config.text)} & {"test", "dev"}, (
            path.name
        )
        judged = {dataset.include_keys_file for dataset in config.dev if dataset.include_keys_file}
        assert judged <= {dataset.exclude_keys_file for dataset in config.train}, path.name
