"""The kinds of stages as an experiment describes them: each has only its own options.

Knows no tensors and no files.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "FinetuneStage",
    "FrozenStage",
    "LanguageStage",
    "SelfCriticalStage",
    "StageBase",
    "StageByKind",
    "StageConfig",
    "stage_fault",
]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StageBase(_Strict):
    """What every stage has. Each starts from the best weights of the stage before."""

    kind: str
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[
        int, Field(ge=1, description="photos a step and process; captions for language")
    ] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    warmup_fraction: Annotated[
        float, Field(ge=0, le=1, description="of all steps: linear rise")
    ] = 0.05
    final_fraction: Annotated[
        float, Field(ge=0, le=1, description="of the rate, at the end of the cosine")
    ] = 0.02
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    freeze_words: Annotated[
        bool, Field(description="leave the embedding and the output layer as they are")
    ] = False
    clip_norm: Annotated[float, Field(gt=0)] = 2.0
    ema_decay: Annotated[
        float, Field(ge=0, lt=1, description="moving average of weights; 0: none")
    ] = 0.998
    weights: Annotated[
        dict[str, float], Field(description="weights of data sets by name, instead of their own")
    ] = {}


class _ImageStage(StageBase):
    """A stage that sees images, and is validated on the dev sets."""

    alpha_c: Annotated[
        float, Field(ge=0, description="weight of the doubly stochastic penalty")
    ] = 1.0
    patience: Annotated[
        int, Field(ge=1, description="epochs without a better dev CIDEr-D before it stops")
    ] = 3
    validate_every: Annotated[
        int, Field(ge=1, description="epochs from one validation on dev to the next; last: always")
    ] = 1


class _HumanCaptions(_Strict):
    """The part of a stage that learns from people's captions."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    scheduled_sampling: Annotated[
        float, Field(ge=0, le=1, description="share of words that the model hears of itself")
    ] = 0.0


class _HardAttention(_Strict):
    """The part of a stage from which hard attention learns where to attend."""

    reward_weight: Annotated[float, Field(ge=0, description="lambda_r of hard attention")] = 1.0
    entropy_weight: Annotated[float, Field(ge=0, description="lambda_e of hard attention")] = 0.01


class _CachedImages(_Strict):
    """The part of a stage whose encoder stands still, so that annotations are cached."""

    views: Annotated[
        int,
        Field(ge=1, le=16, description="of each photo in the cache: itself, and augmented ones"),
    ] = 1
    attention_loss_weight: Annotated[
        float, Field(ge=0, description="weight of the loss on alpha, where boxes are known")
    ] = 0.0
    hide_encoder: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="share of photos that are seen through the tagger alone, whose features "
            "were not learnt from them",
        ),
    ] = 0.0


class LanguageStage(StageBase, _HumanCaptions):
    """The decoder alone learns from captions of the `text` and `train` sets, without an image."""

    kind: Literal["language"] = "language"
    imagined_tags: Annotated[
        bool,
        Field(
            description="each caption comes with the tags that its words name, as if they had been "
            "found in a photo"
        ),
    ] = False


class FrozenStage(_ImageStage, _HumanCaptions, _HardAttention, _CachedImages):
    """The decoder learns from cached annotations of an encoder that does not change."""

    kind: Literal["frozen"] = "frozen"
    distil_from: Annotated[
        tuple[str, ...], Field(description="bundles whose mean probabilities are learnt too")
    ] = ()
    distil_weight: Annotated[
        float, Field(gt=0, le=1, description="of those, against the words of people")
    ] = 0.5


class FinetuneStage(_ImageStage, _HumanCaptions, _HardAttention):
    """Encoder and decoder learn together, each with its own learning rate, on augmented images."""

    kind: Literal["finetune"] = "finetune"
    encoder_learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    augment: Annotated[bool, Field(description="flips (never of left and right), zoom, color")] = (
        True
    )


class SelfCriticalStage(_ImageStage, _CachedImages):
    """The decoder's own samples are rewarded by CIDEr-D (Rennie et al. 2017).

    On cached annotations.
    """

    kind: Literal["self-critical"] = "self-critical"


StageConfig = LanguageStage | FrozenStage | FinetuneStage | SelfCriticalStage

# An unknown key is looked up here before it is refused.
_STAGES: Mapping[str, type[StageBase]] = {
    "language": LanguageStage,
    "frozen": FrozenStage,
    "finetune": FinetuneStage,
    "self-critical": SelfCriticalStage,
}
_RENAMED = {"teach_weight": "attention_loss_weight", "judge_every": "validate_every"}
StageByKind = Annotated[StageConfig, Field(discriminator="kind")]


def stage_fault(table: Mapping[str, Any]) -> str | None:
    """Say what is wrong with the keys of a stage's table, or None.

    Its kind, or the first key that another kind of stage has or that is renamed.
    """
    kind = table.get("kind")
    own = _STAGES.get(kind) if isinstance(kind, str) else None
    if own is None:
        return f"kind: must be one of {', '.join(_STAGES)}"
    for key in table:
        if key in _RENAMED:
            return f"{key}: is called {_RENAMED[key]} now"
        kinds = [other for other, each in _STAGES.items() if key in each.model_fields]
        if kinds and key not in own.model_fields:
            return f"{key}: is for stages of kind {', '.join(kinds)}, not {kind}"
    return None
