"""What describes an experiment that trains a translator: one TOML file. Knows no tensors.

Paths in the file are below the folder of the data sets, which the command line gives.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.config import NAME_PATTERN
from models.translation.config import (
    LANGUAGE_PATTERN,
    ArchitectureConfig,
    RecurrentArchitecture,
    TranslationConfig,
    TranslationOptions,
)
from training.data.pairs import PairsConfig
from training.toml_files import read_experiment

__all__ = ["SubwordsConfig", "TranslateConfig", "TranslationTraining", "load_translate_config"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SubwordsConfig(_Strict):
    """The subwords, learnt from the train sets; see `models.translation.subwords`."""

    size: Annotated[int, Field(ge=5, le=64_000)] = 8000
    joint: Annotated[
        bool, Field(description="one vocabulary of both languages; false: one of `size` for each")
    ] = True
    kind: Literal["unigram", "bpe"] = "unigram"
    coverage: Annotated[
        float,
        Field(gt=0, le=1, description="share of characters; 0.9995 for scripts with thousands"),
    ] = 1.0


class TranslationTraining(_Strict):
    """How the translator learns."""

    epochs: Annotated[int, Field(ge=1)] = 30
    batch_tokens: Annotated[
        int, Field(ge=1, description="subwords of source or target in a step, padding included")
    ] = 2000
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    warmup_fraction: Annotated[
        float, Field(ge=0, le=1, description="of all steps: linear rise")
    ] = 0.05
    final_fraction: Annotated[
        float, Field(ge=0, le=1, description="of the rate, at the end of the cosine")
    ] = 0.02
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    ema_decay: Annotated[
        float, Field(ge=0, lt=1, description="moving average of weights; 0: none")
    ] = 0.998
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    captioned_share: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="share of source sentences that are read as the captioner writes: lower "
            "case, no punctuation",
        ),
    ] = 0.5
    subword_sampling: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="alpha of segmentations that are drawn anew each time; 0: the best one",
        ),
    ] = 0.0
    max_subwords: Annotated[
        int, Field(ge=1, description="a pair with more on one side is left out")
    ] = 100
    validate_every: Annotated[
        int, Field(ge=1, description="epochs from one validation on dev to the next; last: always")
    ] = 1
    validation_beam: Annotated[int, Field(ge=1, le=20)] = 1
    patience: Annotated[
        int, Field(ge=1, description="validations without a better dev BLEU before it stops")
    ] = 10
    mean_of_last: Annotated[
        int,
        Field(
            ge=1,
            le=20,
            description="validated weights whose mean is tried at the end; 1: no mean",
        ),
    ] = 5


class TranslateConfig(_Strict):
    """A whole experiment."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    seed: int = 0
    source_language: Annotated[str, Field(pattern=LANGUAGE_PATTERN)] = "en"
    target_language: Annotated[str, Field(pattern=LANGUAGE_PATTERN)]
    architecture: ArchitectureConfig = RecurrentArchitecture()
    tied: Annotated[
        bool, Field(description="the target's embedding is the output layer's matrix too")
    ] = True
    vocabulary: SubwordsConfig = SubwordsConfig()
    decoding: TranslationOptions = TranslationOptions()
    training: TranslationTraining = TranslationTraining()
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 5.0
    train: Annotated[tuple[PairsConfig, ...], Field(min_length=1)]
    dev: Annotated[
        tuple[PairsConfig, ...],
        Field(description="the mean BLEU of both manners of writing chooses"),
    ] = ()
    hold_out: Annotated[
        int, Field(ge=0, description="pairs of the train sets that choose, where there is no dev")
    ] = 0
    test: Annotated[
        tuple[PairsConfig, ...],
        Field(description="never learnt from nor chosen by; for what measures"),
    ] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Refuse what each field allows and the run could not do."""
        if self.source_language == self.target_language:
            raise ValueError("target_language: must differ from source_language")
        if bool(self.dev) == bool(self.hold_out):
            raise ValueError("dev: name sets that choose, or how many pairs to hold_out of train")
        names = [each.name for each in (*self.dev, *self.test)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two dev and test sets are called '{twice}'")
        if self.decoding.num_captions > self.decoding.beam_size:
            raise ValueError("decoding: num_captions may not exceed beam_size")
        return self

    def describe(self, source_size: int, target_size: int) -> TranslationConfig:
        """Describe the translator, for vocabularies of those sizes."""
        return TranslationConfig(
            name=self.name,
            source_language=self.source_language,
            target_language=self.target_language,
            architecture=self.architecture,
            source_vocab_size=source_size,
            target_vocab_size=target_size,
            joint=self.vocabulary.joint,
            tied=self.tied,
            decoding=self.decoding,
        )


def load_translate_config(path: Path, data_folder: Path) -> TranslateConfig:
    """Read an experiment's TOML; its files are below `data_folder`.

    Raises ConfigError with the field at fault.
    """
    config = read_experiment(path, TranslateConfig)
    placed = {
        name: tuple(each.below(data_folder) for each in getattr(config, name))
        for name in ("train", "dev", "test")
    }
    return config.model_copy(update=placed)
