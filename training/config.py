"""What describes an experiment: one TOML file, read and checked here. Knows no tensors.

Paths in the file are relative to two folders given on the command line, that of the data sets and
that of the pretrained encoders, so that the same file serves on every machine.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from models.config import DecodingOptions
from models.decoders.config import (
    DECODER_KINDS,
    AttentionKind,
    DecoderConfig,
    MapKind,
    nest_decoder,
)
from models.errors import ConfigError
from training.data.datasets import DatasetConfig

__all__ = ["ArchitectureConfig", "StageConfig", "TrainConfig", "load_config"]


_OWN = (
    "name",
    "start_from",
    "borrow_from",
    "shared",
)  # what a file never takes from the one that it is like


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _known_decoder(kind: str) -> str:
    """Refuse a decoder that does not exist."""
    if kind not in DECODER_KINDS:
        raise ValueError(f"must be one of {', '.join(DECODER_KINDS)}")
    return kind


class ArchitectureConfig(_Strict):
    """The captioner to be trained; see `models.config.ModelConfig`."""

    encoder: str = "inception_v3"
    decoder: Annotated[str, AfterValidator(_known_decoder)] = "attention"
    attention: AttentionKind = "additive"
    size_pixels: Annotated[int, Field(ge=16, le=1024)] = 251
    pretrained: Annotated[
        bool, Field(description="start from ImageNet weights; false: from random ones")
    ] = True
    embed_dim: Annotated[int, Field(ge=1)] = 320
    decoder_dim: Annotated[int, Field(ge=1)] = 512
    attention_dim: Annotated[int, Field(ge=1)] = 256
    layers: Annotated[int, Field(ge=1, le=24, description="of the transformer")] = 3
    heads: Annotated[int, Field(ge=1, le=64, description="of the transformer")] = 8
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5

    def decoder_config(self) -> DecoderConfig:
        """Describe the decoder alone, with the fields that it has."""
        described: DecoderConfig = TypeAdapter(DecoderConfig).validate_python(
            nest_decoder(self.decoder, self.model_dump())
        )
        return described


class StageConfig(_Strict):
    """One stretch of training. Each starts from the best weights of the stage before.

    language: the decoder alone learns from captions, of the `text` and the `train` sets; its
    picture is all zeros.
    frozen: the decoder learns from cached annotations of an encoder that does not change.
    finetune: encoder and decoder learn together, each with its own learning rate, on augmented
    pictures. self-critical: as frozen, but the decoder's own samples are rewarded by CIDEr-D
    (Rennie et al. 2017).
    """

    kind: Literal["language", "frozen", "finetune", "self-critical"]
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[
        int, Field(ge=1, description="photos a step and process; captions for language")
    ] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    encoder_learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    warmup_fraction: Annotated[
        float, Field(ge=0, le=1, description="of all steps: linear rise")
    ] = 0.05
    final_fraction: Annotated[
        float, Field(ge=0, le=1, description="of the rate, at the end of the cosine")
    ] = 0.02
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    alpha_c: Annotated[
        float, Field(ge=0, description="weight of the doubly stochastic penalty")
    ] = 1.0
    attention_loss_weight: Annotated[
        float, Field(ge=0, description="weight of the loss on alpha, where boxes are known")
    ] = 0.0
    reward_weight: Annotated[float, Field(ge=0, description="lambda_r of hard attention")] = 1.0
    entropy_weight: Annotated[float, Field(ge=0, description="lambda_e of hard attention")] = 0.01
    freeze_words: Annotated[
        bool, Field(description="leave the embedding and the output layer as they are")
    ] = False
    clip_norm: Annotated[float, Field(gt=0)] = 2.0
    ema_decay: Annotated[
        float, Field(ge=0, lt=1, description="moving average of weights; 0: none")
    ] = 0.998
    patience: Annotated[
        int, Field(ge=1, description="epochs without a better dev CIDEr-D before it stops")
    ] = 3
    validate_every: Annotated[
        int, Field(ge=1, description="epochs from one judging on dev to the next; last: always")
    ] = 1
    weights: Annotated[
        dict[str, float], Field(description="weights of data sets by name, instead of their own")
    ] = {}
    views: Annotated[
        int,
        Field(ge=1, le=16, description="of each photo in the cache: itself, and augmented ones"),
    ] = 1
    scheduled_sampling: Annotated[
        float, Field(ge=0, le=1, description="share of words that the model hears of itself")
    ] = 0.0
    distil_from: Annotated[
        tuple[str, ...], Field(description="bundles whose mean probabilities are learnt too")
    ] = ()
    distil_weight: Annotated[
        float, Field(gt=0, le=1, description="of those, against the words of people")
    ] = 0.5
    augment: Annotated[
        bool, Field(description="flips (never of left and right), zoom, color; finetune only")
    ] = True


class TrainConfig(_Strict):
    """A whole experiment."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    seed: int = 0
    start_from: Annotated[
        str | None,
        Field(
            description="a bundle to go on from: its architecture (but for dropout), words and "
            "weights"
        ),
    ] = None
    borrow_from: Annotated[
        str | None,
        Field(
            description="a bundle whose words are this run's, and whose tensors begin those that "
            "fit"
        ),
    ] = None
    shared: Annotated[
        dict[Literal["encoder", "words"], str],
        Field(
            description="parts that `export` leaves to a file of that name in weights/shared, and "
            "writes if need be"
        ),
    ] = {}
    architecture: ArchitectureConfig = ArchitectureConfig()
    decoding: DecodingOptions = DecodingOptions()
    min_count: Annotated[int, Field(ge=1, description="a rarer word is <unk>")] = 5
    max_length: Annotated[
        int, Field(ge=1, le=50, description="words; longer captions are cut for training")
    ] = 24
    captions_per_photo: Annotated[
        int, Field(ge=1, description="that share one encoding in a step")
    ] = 5
    max_unreadable: Annotated[
        int, Field(ge=0, description="damaged pictures found on the way before it stops")
    ] = 0
    precision: Annotated[
        Literal["auto", "bfloat16", "float32"],
        Field(
            description="of the networks; auto: bfloat16 on a GPU, on a CPU what is measured to be "
            "faster"
        ),
    ] = "auto"
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 5.0
    train: Annotated[tuple[DatasetConfig, ...], Field(min_length=1)]
    dev: Annotated[
        tuple[DatasetConfig, ...],
        Field(min_length=1, description="the mean of their CIDEr-D chooses"),
    ]
    text: Annotated[
        tuple[DatasetConfig, ...], Field(description="captions without pictures, for language")
    ] = ()
    test: Annotated[
        tuple[DatasetConfig, ...],
        Field(description="never learnt from nor chosen by; for what measures"),
    ] = ()
    stages: Annotated[tuple[StageConfig, ...], Field(min_length=1)]

    def _has_soft_maps(self) -> bool:
        """Tell whether the decoder's maps have a gradient: not if it sees one vector, or one
        place at a time."""
        maps = self.architecture.decoder_config().maps
        soft = maps in (MapKind.SOFT, MapKind.CROSS_ATTENTION)
        return soft or self.start_from is not None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Refuse what each field allows and the run could not do."""
        if self.start_from is not None and self.borrow_from is not None:
            raise ValueError("start_from and borrow_from: a run begins from one bundle")
        if self.decoding.num_captions > self.decoding.beam_size:
            raise ValueError("decoding: num_captions may not exceed beam_size")
        for group in ("train", "dev", "test"):
            for dataset in getattr(self, group):
                if dataset.kind == "captions":
                    raise ValueError(
                        f"{group} set '{dataset.name}' has no pictures (kind captions); list it as "
                        "text"
                    )
        for group, titles in (
            ("dev", [each.name for each in self.dev]),
            ("dev and test", [f"{each.name} {each.split}" for each in (*self.dev, *self.test)]),
        ):
            twice = next((title for title in titles if titles.count(title) > 1), None)
            if twice is not None:
                raise ValueError(
                    f"two {group} sets are called '{twice}'; results are told apart by name"
                )
        names = {each.name for each in (*self.train, *self.text)}
        for number, stage in enumerate(self.stages):
            if stage.attention_loss_weight and not self._has_soft_maps():
                raise ValueError(
                    f"stages.{number}.attention_loss_weight: this decoder has no maps that a loss "
                    "can reach"
                )
            if stage.kind == "self-critical" and self.architecture.attention == "hard":
                raise ValueError(
                    f"stages.{number}: hard attention draws places in training alone, not in its "
                    "samples"
                )
            if stage.attention_loss_weight and stage.kind not in ("frozen", "self-critical"):
                raise ValueError(
                    f"stages.{number}.attention_loss_weight: boxes are known for whole, frozen "
                    "pictures "
                    "alone"
                )
            if stage.views > 1 and stage.kind not in ("frozen", "self-critical"):
                raise ValueError(
                    f"stages.{number}.views: only frozen pictures are cached; finetune augments as "
                    "it goes"
                )
            if "distil_weight" in stage.model_fields_set and not stage.distil_from:
                raise ValueError(
                    f"stages.{number}.distil_weight: there is nothing in distil_from to weigh"
                )
            tuned = any(before.kind == "finetune" for before in self.stages[:number])
            if stage.distil_from and (stage.kind != "frozen" or tuned):
                raise ValueError(
                    f"stages.{number}.distil_from: teachers see through the encoder that the run "
                    "began with"
                )
            if stage.scheduled_sampling and stage.kind == "self-critical":
                raise ValueError(
                    f"stages.{number}.scheduled_sampling: self-critical captions are samples "
                    "already"
                )
            for name, weight in stage.weights.items():
                if name not in names or weight <= 0:
                    raise ValueError(
                        f"stages.{number}.weights: '{name}' must name a train or text set, above "
                        "zero"
                    )
        return self


def load_config(path: Path, data_folder: Path) -> TrainConfig:
    """Read an experiment's TOML; the roots of its sets are below `data_folder`, key files below the
    TOML's folder.

    Raises ConfigError with the field at fault.
    """
    try:
        config = TrainConfig.model_validate(_read_table(path))
    except OSError as error:
        raise ConfigError(f"The experiment {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text, as TOML must be.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is no TOML: {error}.") from error
    except ValidationError as error:
        first, others = error.errors()[0], error.error_count() - 1
        where = ".".join(str(part) for part in first["loc"])
        more = f" (and {others} more)" if others else ""
        raise ConfigError(
            f"{path}: "
            f"{where}{': ' if where else ''}{first['msg'].removeprefix('Value error, ')}{more}."
        ) from error

    def placed(sets: tuple[DatasetConfig, ...]) -> tuple[DatasetConfig, ...]:
        return tuple(_placed(each, data_folder, path.parent) for each in sets)

    return config.model_copy(
        update={name: placed(getattr(config, name)) for name in ("train", "dev", "text", "test")}
    )


def _read_table(path: Path) -> dict[str, Any]:
    """Read a TOML file; what it does not set comes from the file beside it that it is `like`, if it
    names one.

    The tables `architecture` and `decoding` are completed key by key, everything else is taken as a
    whole.
    """
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    model = table.pop("like", None)
    if model is None:
        return table
    if not isinstance(model, str) or Path(model).name != model or model == path.name:
        raise ConfigError(f"{path}: like: must be the name of another file beside it.")
    common = _read_table(path.with_name(model))
    for key in ("architecture", "decoding"):
        if isinstance(common.get(key), dict) and isinstance(table.get(key), dict):
            table[key] = common[key] | table[key]
    return {key: value for key, value in common.items() if key not in _OWN} | table


def _placed(dataset: DatasetConfig, data_folder: Path, config_folder: Path) -> DatasetConfig:
    keys = {
        field: config_folder / value
        for field in ("include_keys_file", "exclude_keys_file")
        if (value := getattr(dataset, field)) is not None
    }
    return dataset.model_copy(update={"root": data_folder / dataset.root, **keys})
