"""The kinds of learning, one a file, all of the shape of `Stage`."""

from collections.abc import Mapping
from typing import Any

from training.config import (
    FinetuneStage,
    FrozenStage,
    LanguageStage,
    SelfCriticalStage,
    StageBase,
    StageConfig,
)
from training.stages.base import Batch, Stage, StageContext
from training.stages.finetune import Finetune
from training.stages.frozen import Frozen
from training.stages.language import Language
from training.stages.self_critical import SelfCritical

__all__ = ["Batch", "Stage", "StageContext", "build_stage"]

_STAGES: Mapping[type[StageBase], type[Stage[Any]]] = {
    LanguageStage: Language,
    FrozenStage: Frozen,
    FinetuneStage: Finetune,
    SelfCriticalStage: SelfCritical,
}


def build_stage(config: StageConfig, context: StageContext) -> Stage[StageBase]:
    """Build the stage that `config` describes."""
    return _STAGES[type(config)](config, context)
