"""What is known of this project's own models and not measured, read from models.toml.

Names, the order of rows, baselines, remarks, and the words of the model cards. Knows no figures.
"""

import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from models.config import ModelConfig

__all__ = ["CardWords", "Catalog", "ModelWords", "Project", "decoder_kind", "read_catalog"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Project(_Record):
    """Facts of all models together.

    order: of the rows of tables. baselines: what every other model is compared with. examples: of
    the images in docs/images that may be shown, by file name without its end, what they show.
    without_maps: says which models have no maps of their own.
    """

    default_model: str
    baselines: tuple[str, ...]
    order: tuple[str, ...]
    without_maps: str
    examples: dict[str, str]


class ModelWords(_Record):
    """The words of one model.

    about, data: paragraphs of its card. limit: which of `Catalog.limits` holds of its maps.
    published: the model of the published row beside its scores. maps: a remark on its maps.
    """

    about: str = ""
    data: str = ""
    limit: str = ""
    published: str | None = None
    maps: str | None = None


class CardWords(_Record):
    """Paragraphs of the cards of all models, or of all that they hold of."""

    use: str
    shared: str
    compared: str
    quality: str
    published: str
    uncalibrated: str
    maps: str
    data: str
    terms: str
    limits: tuple[str, ...]


class Catalog(_Record):
    """The whole file.

    limits: of maps. encoders, decoders, maps (`MapKind`), stages: words for each kind.
    encoder_terms: where the weights of an encoder come from. tagger_terms: those of a tagger.
    """

    project: Project
    models: dict[str, ModelWords]
    limits: dict[str, str]
    encoders: dict[str, str]
    decoders: dict[str, str]
    maps: dict[str, str]
    stages: dict[str, str]
    card: CardWords = Field(alias="common")
    encoder_terms: dict[str, str]
    tagger_terms: str

    def in_order(self, names: Sequence[str]) -> list[str]:
        """Sort models for a table: in the project's order, then unknown ones by name."""
        places = {name: place for place, name in enumerate(self.project.order)}
        return sorted(names, key=lambda name: (places.get(name, len(places)), name))

    def words_of(self, name: str) -> ModelWords:
        """Give the words of a model; empty ones for a model that is not in the file."""
        return self.models.get(name, ModelWords())


def decoder_kind(config: ModelConfig) -> str:
    """Name the kind of a decoder: that of its attention where the decoder is "attention"."""
    decoder = config.decoder
    return decoder.attention if decoder.kind == "attention" else decoder.kind


@cache
def read_catalog() -> Catalog:
    """Read models.toml."""
    text = Path(__file__).with_name("models.toml").read_text(encoding="utf-8")
    return Catalog.model_validate(tomllib.loads(text))
