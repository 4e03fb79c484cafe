"""Small matchers of fixed random weights, and pictures and sentences for them."""

import torch
from torch import Tensor

from models.features import ImageFeatures, Tags
from models.geometry import CellGrid
from models.matching.bundle import Matcher, build_matcher
from models.matching.config import MatcherConfig, NceConfig, VilbertConfig, VlBertConfig
from models.matching.regions import Regions, find_regions
from models.matching.words import pad_sentences

GRID = CellGrid(2, 2)
FEATURES = 6
WORDS = 20
SENTENCES = ((4, 5, 6, 7), (8,), (9, 10))

NCE = NceConfig(width=8, heads=2, embed_dim=6, joint_dim=5, blocks=2, dropout=0.0)
TRANSFORMER_NCE = NCE.model_copy(update={"sentence": "transformer"})
VILBERT = VilbertConfig(width=8, heads=2, embed_dim=6, blocks=2, dropout=0.0)
VL_BERT = VlBertConfig(width=8, heads=2, embed_dim=6, blocks=2, layers=2, dropout=0.0)


def matcher(config: MatcherConfig, seed: int = 0) -> Matcher:
    """A matcher that knows `WORDS` tokens; class 0 is called by the words 4 and 5."""
    torch.manual_seed(seed)
    model = build_matcher(config, WORDS, FEATURES).eval()
    model.table.class_words[0, :2] = torch.tensor([4, 5])
    return model


def features(count: int = 3, seed: int = 1) -> ImageFeatures:
    """Pictures with two tags each, the second of which is absent in the first picture."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.5, 0.0, 1.0, 1.0]]).expand(count, 2, 4)
    places = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.5]]).repeat(count, 1, 1)
    scores = torch.tensor([[0.9, 0.4]]).repeat(count, 1)
    scores[0, 1] = 0.0
    places[0, 1] = 0.0
    classes = torch.tensor([[0, 3]]).expand(count, 2)
    annotations = torch.randn(count, 4, FEATURES, generator=generator)
    return ImageFeatures(annotations, Tags.pack(classes, scores, boxes, places))


def regions(count: int = 3, seed: int = 1) -> Regions:
    """The regions of `features`."""
    return find_regions(features(count, seed), GRID, 2)


def sentences(more: int = 0) -> Tensor:
    """`SENTENCES` as ids, with so much more padding."""
    ids = pad_sentences(SENTENCES, 24)
    return torch.nn.functional.pad(ids, (0, more))
