"""What describes the training of a matching model: one TOML file, read and checked.

Knows no tensors. Paths are as in `training.config`.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.config import NAME_PATTERN
from models.matching.config import MatcherConfig
from training.config import StageBase, read_placed
from training.data.datasets import DatasetConfig

__all__ = [
    "MatchTrainConfig",
    "PairsStage",
    "WordsStage",
    "load_match_config",
]

_Share = Annotated[float, Field(ge=0, le=1)]
_Weight = Annotated[float, Field(ge=0)]


class _Masking(StageBase):
    """The part of a stage that hides words: 15 in 100, as Devlin et al. 2019 do."""

    masked_share: Annotated[float, Field(gt=0, lt=1, description="of a sentence's words")] = 0.15
    patience: Annotated[
        int, Field(ge=1, description="epochs without a better score on dev before it stops")
    ] = 3


class WordsStage(_Masking):
    """Sentences alone: masked words of the `text` and `train` sets."""

    kind: Literal["words"] = "words"


class PairsStage(_Masking):
    """Pictures and sentences together, on cached features of eyes that stand still.

    Each matcher reads of this what it learns by; see `training.matching.learning`.
    """

    kind: Literal["pairs"] = "pairs"
    captions_per_photo: Annotated[int, Field(ge=1, le=5)] = 2
    views: Annotated[
        int, Field(ge=1, le=16, description="of each photo: itself, and augmented ones")
    ] = 1
    hide_encoder: Annotated[
        float,
        Field(ge=0, lt=1, description="share of photos that are seen through the tagger alone"),
    ] = 0.0
    memory: Annotated[
        int, Field(ge=0, description="nce: pairs of earlier steps that may be negatives")
    ] = 4096
    hardest: Annotated[
        int, Field(ge=1, description="nce: of those, how many each pair is told apart from")
    ] = 64
    hard_share: Annotated[
        _Share, Field(description="vilbert: negatives from the hundred nearest captions by nce")
    ] = 0.5
    masked_rows: Annotated[_Share, Field(description="vilbert: sentences that have blanks")] = 0.5
    masked_words_weight: _Weight = 1.0
    masked_regions_weight: _Weight = 1.0
    without_picture: Annotated[
        _Share, Field(description="share of sentences whose blanks are guessed unseen, besides")
    ] = 0.1


class MatchTrainConfig(BaseModel):
    """A whole experiment.

    eyes: the captioner's bundle through which the model sees; its words are the model's.
    nce: the bundle that finds hard negatives and candidates, for `vilbert`.
    blanked_share: of the photos that have a box to ask about, how many are seen once more with the
        box blanked, for masked regions. Each costs a pass of the eyes, once, into the cache.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    eyes: Annotated[str, Field(pattern=NAME_PATTERN)]
    nce: Annotated[str | None, Field(pattern=NAME_PATTERN)] = None
    seed: int = 0
    matcher: MatcherConfig
    blanked_share: _Share = 0.3
    max_unreadable: Annotated[int, Field(ge=0)] = 0
    precision: Literal["auto", "bfloat16", "float32"] = "float32"
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 5.0
    dev_photos: Annotated[
        int, Field(ge=2, description="of the dev set, on which an epoch of vilbert is re-ranked")
    ] = 200
    candidates: Annotated[
        int, Field(ge=1, le=200, description="of nce that vilbert re-ranks, each way")
    ] = 20
    train: Annotated[tuple[DatasetConfig, ...], Field(min_length=1)]
    dev: Annotated[tuple[DatasetConfig, ...], Field(min_length=1, max_length=1)]
    text: tuple[DatasetConfig, ...] = ()
    test: Annotated[tuple[DatasetConfig, ...], Field(max_length=1)] = ()
    stages: Annotated[
        tuple[Annotated[WordsStage | PairsStage, Field(discriminator="kind")], ...],
        Field(min_length=1),
    ]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Refuse what each field allows and the run could not do."""
        if self.matcher.kind == "vilbert" and self.nce is None:
            raise ValueError("nce: vilbert re-ranks what another model finds; name its bundle")
        if self.matcher.kind != "vilbert" and self.nce is not None:
            raise ValueError(f"nce: {self.matcher.kind} needs no other model")
        for group in ("train", "dev", "test"):
            for dataset in getattr(self, group):
                if dataset.kind == "captions":
                    raise ValueError(
                        f"{group} set '{dataset.name}' has no pictures (kind captions); list it as "
                        "text"
                    )
        names = {each.name for each in (*self.train, *self.text)}
        for number, stage in enumerate(self.stages):
            for name, weight in stage.weights.items():
                if name not in names or weight <= 0:
                    raise ValueError(
                        f"stages.{number}.weights: '{name}' must name a train or text set, above "
                        "zero"
                    )
        return self


def load_match_config(path: Path, data_folder: Path) -> MatchTrainConfig:
    """Read an experiment's TOML. Raises ConfigError with the field at fault."""
    return read_placed(path, data_folder, MatchTrainConfig)
