"""How a run begins: its data, its captioner, and that captioner's first weights.

Knows no steps, and of stages only what they distil from.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

from models.bundles.checkpoint import Checkpoint, load_checkpoint
from models.bundles.tensors import halve
from models.config import ModelConfig, PreprocessConfig
from models.decoders.base import CaptionDecoder
from models.decoders.tag_attention import TagAttention
from models.encoders import default_preprocess, load_pretrained
from models.errors import ConfigError
from models.network import CaptioningModel, build_model, columns_of_source, overlap
from models.runtime.torch import eyes_fingerprint
from models.tagging.classes import class_word_ids
from models.tagging.tagger import Tagger
from models.tokenizer import Vocabulary
from training.config import ArchitectureConfig, FrozenStage, Part, TrainConfig, is_of_part
from training.data.training_data import TrainingData, read_training_data
from training.tagger_weights import read_tagger

__all__ = [
    "first_model",
    "initialize_from",
    "load_source",
    "load_teachers",
    "model_config",
    "read_data",
    "tell_words",
]


def load_source(config: TrainConfig, weights_folder: Path) -> Checkpoint | None:
    """Load the bundle that the run starts or borrows from, if any. Raises CheckpointError."""
    name = config.start_from or config.borrow_from
    return None if name is None else load_checkpoint(weights_folder / name)


def read_data(
    config: TrainConfig, source: Checkpoint | None, say: Callable[[str], None]
) -> TrainingData:
    """Read the sets of an experiment; the words are those of `source`, if there is one.

    Raises DataError.
    """
    return read_training_data(
        train=config.train,
        text=config.text,
        dev=config.dev,
        min_count=config.min_count,
        max_length=config.max_length,
        say=say,
        vocabulary=None if source is None else source.vocabulary,
    )


def model_config(
    config: TrainConfig, vocab_size: int, source: Checkpoint | None = None
) -> ModelConfig:
    """Describe the captioner that an experiment trains.

    Its architecture is the experiment's own, or that of the bundle that it starts from.
    """
    chosen = config.architecture
    if source is not None and config.start_from is not None:
        own = {
            "name": config.name,
            "decoder": source.config.decoder.model_copy(update={"dropout": chosen.dropout}),
            "decoding": config.decoding,
            "calibration": None,
        }
        return source.config.model_copy(update=own)
    return ModelConfig(
        name=config.name,
        encoder=chosen.encoder,
        decoder=chosen.decoder_config(),
        vocab_size=vocab_size,
        preprocess=_preprocess(chosen),
        encoder_pixels=chosen.encoder_pixels,
        tagger=chosen.tagger,
        decoding=config.decoding,
    )


def first_model(
    config: TrainConfig, described: ModelConfig, source: Checkpoint | None, encoders_folder: Path
) -> CaptioningModel:
    """Build the model as training begins: random or pretrained, over that what `source` has.

    Raises ConfigError.
    """
    model = build_model(described)
    if source is not None and config.start_from is not None:
        model.load_state_dict(source.model.state_dict())
        return model
    has_encoder = source is not None and source.config.encoder == described.encoder
    if config.architecture.pretrained and not has_encoder:
        size = described.encoder_pixels or described.preprocess.size_pixels
        pretrained = load_pretrained(described.encoder, size, encoders_folder)
        model.encoder.load_state_dict(pretrained.state_dict())
    if model.tagger is not None:
        _begin_tagger(model.tagger, source, encoders_folder)
    if source is not None:
        initialize_from(model, source.model, config.borrow_parts)
    return model


def tell_words(model: CaptioningModel, vocabulary: Vocabulary) -> None:
    """Tell a decoder that attends to tags how people speak of each class of them."""
    tags = getattr(model.decoder, "tags", None)
    if isinstance(tags, TagAttention):
        tags.set_words(class_word_ids(vocabulary))


def _begin_tagger(tagger: Tagger, source: Checkpoint | None, encoders_folder: Path) -> None:
    """Fill the tagger with its published weights, unless the source brings them."""
    if source is None or source.model.tagger is None:
        published = halve(read_tagger(encoders_folder))  # as a bundle stores them
        tagger.load_state_dict({name: tensor.float() for name, tensor in published.items()})


def _preprocess(chosen: ArchitectureConfig) -> PreprocessConfig:
    """Give the encoder's own preprocessing, at the size that images are decoded to."""
    own = default_preprocess(chosen.encoder, chosen.encoder_pixels or chosen.size_pixels)
    return own.model_copy(update={"size_pixels": chosen.size_pixels})


def initialize_from(
    model: CaptioningModel, source: CaptioningModel, parts: Sequence[Part] = ()
) -> None:
    """Copy the source's tensors wherever they fit by name and shape; the others stay as they are.

    parts: only of these; none named, of all.
    Where the model has more features than the source, their columns become zero: it ignores them at
    first.
    """
    own = model.state_dict()
    columns = columns_of_source(model, source)
    for name, tensor in overlap(model, source).items():
        if parts and not any(is_of_part(name, part) for part in parts):
            continue
        if own[name].shape == tensor.shape:
            own[name].copy_(tensor)
            continue
        if own[name].dim() > 1:
            own[name].zero_()
        own[name][..., columns] = tensor


def load_teachers(
    config: TrainConfig, model: CaptioningModel, vocabulary: Vocabulary, weights_folder: Path
) -> dict[str, CaptionDecoder]:
    """Load what the stages distil from, by name.

    Raises ConfigError where a teacher has other words or another encoder.
    """
    names: set[str] = set()
    for stage in config.stages:
        if isinstance(stage, FrozenStage):
            names.update(stage.distil_from)
    if not names:
        return {}
    own = eyes_fingerprint(_as_stored(model))
    teachers = {}
    for name in sorted(names):
        found = load_checkpoint(weights_folder / name)
        if found.vocabulary.words != vocabulary.words:
            raise ConfigError(f"distil_from: '{name}' has other words than this run.")
        teacher = found.model
        if eyes_fingerprint(teacher) != own:
            raise ConfigError(f"distil_from: '{name}' looks through another encoder than this run.")
        teachers[name] = teacher.decoder
    return teachers


def _as_stored(model: CaptioningModel) -> CaptioningModel:
    """Give a copy whose weights are rounded as a bundle stores them."""
    return copy.deepcopy(model).half()
