"""Which learning a stage and a matcher call for."""

from typing import Any

from models.matching.bundle import MatchingBundle
from models.matching.nce import NceMatcher
from models.matching.vl_bert import VlBert
from training.matching.config import PairsStage, WordsStage
from training.matching.joint_learning import VilbertLearning, VlBertLearning
from training.matching.learning import Learning, MatchContext, WordsLearning
from training.matching.nce_learning import NceLearning

__all__ = ["build_learning"]


def build_learning(
    stage: WordsStage | PairsStage, context: MatchContext[Any], finder: MatchingBundle | None
) -> Learning[Any, Any, Any]:
    """Build the learning of a stage.

    finder: the nce whose candidates a vilbert re-ranks; an experiment of that kind names one.
    """
    if isinstance(stage, WordsStage):
        return WordsLearning(stage, context)
    if isinstance(context.model, NceMatcher):
        return NceLearning(stage, context)
    if isinstance(context.model, VlBert):
        return VlBertLearning(stage, context)
    assert finder is not None
    return VilbertLearning(stage, context, finder)
