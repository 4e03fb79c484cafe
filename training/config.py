"""What describes an experiment: one TOML file, read and checked. Knows no tensors.

Paths in the file are relative to two folders given on the command line, that of the data sets and
that of the pretrained encoders, so that the same file serves on every machine.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    model_validator,
)

from models.config import NAME_PATTERN, DecodingOptions, TaggerConfig
from models.decoders.config import (
    DECODER_KINDS,
    AttentionKind,
    DecoderConfig,
    MapKind,
    nest_decoder,
)
from training.data.datasets import DatasetConfig
from training.stage_config import (
    FinetuneStage,
    FrozenStage,
    LanguageStage,
    SelfCriticalStage,
    StageBase,
    StageByKind,
    StageConfig,
    stage_fault,
)
from training.toml_files import read_experiment

ExperimentT = TypeVar("ExperimentT", bound=BaseModel)

__all__ = [
    "ArchitectureConfig",
    "FinetuneStage",
    "FrozenStage",
    "LanguageStage",
    "Part",
    "SelfCriticalStage",
    "StageBase",
    "StageConfig",
    "TrainConfig",
    "is_of_part",
    "load_config",
    "read_placed",
]

# What a file never takes from the one that it is like.
_OWN = ("name", "start_from", "borrow_from", "borrow_parts", "shared")

Part = Literal["encoder", "tagger", "words"]
"""Parts that models may have in common; the words are the embedding and the output layer."""


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
    encoder_pixels: Annotated[
        int | None,
        Field(ge=16, le=1024, description="the side of what the encoder sees, if not the whole"),
    ] = None
    tagger: Annotated[
        TaggerConfig | None, Field(description="finds objects and concepts; absent: none")
    ] = None
    tags: Annotated[bool, Field(description="attention attends to the tagger's finds too")] = False
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


class TrainConfig(_Strict):
    """A whole experiment."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
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
    borrow_parts: Annotated[
        tuple[Part, ...],
        Field(description="which of its parts begin those of the run; none named: all that fit"),
    ] = ()
    shared: Annotated[
        dict[Part, str],
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
        int, Field(ge=0, description="damaged images found on the way before it stops")
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
        tuple[DatasetConfig, ...], Field(description="captions without images, for language")
    ] = ()
    test: Annotated[
        tuple[DatasetConfig, ...],
        Field(description="never learnt from nor chosen by; for what measures"),
    ] = ()
    stages: Annotated[tuple[StageByKind, ...], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _stage_keys(cls, table: Any) -> Any:
        """Refuse a key of another kind of stage in words, which the union of kinds would not."""
        stages = table.get("stages") if isinstance(table, dict) else None
        for number, stage in enumerate(stages if isinstance(stages, list) else ()):
            fault = stage_fault(stage) if isinstance(stage, dict) else None
            if fault is not None:
                raise ValueError(f"stages.{number}.{fault}")
        return table

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Refuse what each field allows and the run could not do."""
        if self.start_from is not None and self.borrow_from is not None:
            raise ValueError("start_from and borrow_from: a run begins from one bundle")
        if self.borrow_parts and self.borrow_from is None:
            raise ValueError("borrow_parts: there is no bundle in borrow_from that has them")
        if self.decoding.num_captions > self.decoding.beam_size:
            raise ValueError("decoding: num_captions may not exceed beam_size")
        for group in ("train", "dev", "test"):
            for dataset in getattr(self, group):
                if dataset.kind == "captions":
                    raise ValueError(
                        f"{group} set '{dataset.name}' has no pictures (kind captions); list it as "
                        "text"
                    )
        _check_unique("dev", [each.name for each in self.dev])
        measured = (*self.dev, *self.test)
        _check_unique("dev and test", [f"{each.name} {each.split}" for each in measured])
        for number, stage in enumerate(self.stages):
            fault = self._stage_fault(stage, self.stages[:number])
            if fault is not None:
                raise ValueError(f"stages.{number}{fault}")
        return self

    def _stage_fault(self, stage: StageConfig, before: Sequence[StageConfig]) -> str | None:
        """Say what a stage asks for that the run could not do."""
        names = {each.name for each in (*self.train, *self.text)}
        for name, weight in stage.weights.items():
            if name not in names or weight <= 0:
                return f".weights: '{name}' must name a train or text set, above zero"
        learns_maps = getattr(stage, "attention_loss_weight", 0.0) > 0
        if learns_maps and not self._has_soft_maps():
            return ".attention_loss_weight: this decoder has no maps that a loss can reach"
        if getattr(stage, "imagined_tags", False) and not self._may_attend_to_tags():
            return ".imagined_tags: this decoder attends to no tags"
        if getattr(stage, "hide_encoder", 0.0) and not self._may_have_a_tagger():
            return ".hide_encoder: without a tagger nothing would be left to see"
        if isinstance(stage, SelfCriticalStage) and self.architecture.attention == "hard":
            return ": hard attention draws places in training alone, not in its samples"
        if isinstance(stage, FrozenStage):
            if "distil_weight" in stage.model_fields_set and not stage.distil_from:
                return ".distil_weight: there is nothing in distil_from to weigh"
            if stage.distil_from and any(isinstance(each, FinetuneStage) for each in before):
                return ".distil_from: teachers see through the encoder that the run began with"
        return None

    def _may_have_a_tagger(self) -> bool:
        """Tell whether there is one, as far as the file says; a bundle to start from may have."""
        return self.architecture.tagger is not None or self.start_from is not None

    def _may_attend_to_tags(self) -> bool:
        """Tell whether the decoder does, as far as the file says; one to start from may."""
        return self.architecture.tags or self.start_from is not None

    def _has_soft_maps(self) -> bool:
        """Tell whether the decoder's maps have a gradient.

        They have none where it sees one vector, or one place at a time.
        """
        maps = self.architecture.decoder_config().maps
        soft = maps in (MapKind.SOFT, MapKind.CROSS_ATTENTION)
        return soft or self.start_from is not None


def _check_unique(group: str, titles: Sequence[str]) -> None:
    twice = next((title for title in titles if titles.count(title) > 1), None)
    if twice is not None:
        raise ValueError(f"two {group} sets are called '{twice}'; results are told apart by name")


def load_config(path: Path, data_folder: Path) -> TrainConfig:
    """Read an experiment's TOML.

    The roots of its sets are below `data_folder`, its key files below the TOML's folder.

    Raises ConfigError with the field at fault.
    """
    return read_placed(path, data_folder, TrainConfig)


def read_placed(path: Path, data_folder: Path, kind: type[ExperimentT]) -> ExperimentT:
    """Read an experiment of any kind, as `load_config` does one that trains a captioner.

    kind: has sets as `train`, `dev`, `text` and `test`. Raises ConfigError.
    """
    config = read_experiment(path, kind, own=_OWN)

    def placed(sets: tuple[DatasetConfig, ...]) -> tuple[DatasetConfig, ...]:
        return tuple(_placed(each, data_folder, path.parent) for each in sets)

    return config.model_copy(
        update={name: placed(getattr(config, name)) for name in ("train", "dev", "text", "test")}
    )


def _placed(dataset: DatasetConfig, data_folder: Path, config_folder: Path) -> DatasetConfig:
    keys = {
        field: config_folder / value
        for field in ("include_keys_file", "exclude_keys_file")
        if (value := getattr(dataset, field)) is not None
    }
    return dataset.model_copy(update={"root": data_folder / dataset.root, **keys})


def is_of_part(name: str, part: Part) -> bool:
    """Tell whether a tensor of that name belongs to a part that models may have in common."""
    prefixes = {
        "encoder": ("encoder.",),
        "tagger": ("tagger.",),
        "words": ("decoder.embedding.", "decoder.output."),
    }
    return name.startswith(prefixes[part])
