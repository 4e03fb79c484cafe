"""Going on from a captioner that saw less: what a tagger adds is not read at first, and nothing of
what was there moves."""

import pytest
import torch
from torch import Tensor

from models.architectures.grids import Normalization
from models.config import TaggerConfig
from models.decoders.base import CaptionDecoder
from models.decoders.config import AttentionConfig, TransformerConfig
from models.decoders.show_attend_tell import AttentionDecoder
from models.encoders import build_encoder
from models.encoders.base import Encoder
from models.encoders.fused import FusedEncoder
from models.features import Tags
from models.network import CaptioningModel, build_model, overlap, sees_more
from models.tagging.classes import class_word_ids, tag_classes
from models.tagging.tagger import Tagger
from models.tokenizer import Vocabulary
from tests.unit.seeing_toys import KNOWN, seeing_config
from tests.unit.test_features import random_tags
from tests.unit.toys import tiny_model
from training.initialization import initialize_from, tell_words

LOCATIONS = 196
WITHOUT_TAGS = AttentionConfig(embed_dim=8, decoder_dim=12, attention_dim=6)
CLASS_OF_CUPS = [each.name for each in tag_classes()].index("cup")


@pytest.fixture(scope="module")
def blind() -> CaptioningModel:
    """A captioner without a tagger."""
    return tiny_model(seeing_config("blind", tagger=None, decoder=WITHOUT_TAGS))


@pytest.fixture(scope="module")
def widened(blind: CaptioningModel) -> CaptioningModel:
    """One with a tagger, which went on from it; no words of tags are told yet."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = build_model(seeing_config()).eval()
    initialize_from(model, blind)
    return model


@pytest.fixture
def annotations(widened: CaptioningModel) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, LOCATIONS, widened.feature_dim, generator=generator)


def read(decoder: CaptionDecoder, annotations: Tensor, tags: Tags | None = None) -> Tensor:
    """Logits (B, T, V) of a few words."""
    words = torch.tensor([[1, 5, 9, 4], [1, 7, 6, 11]])
    output = decoder(words, decoder.init_state(annotations, tags))
    return decoder.logits(output.readout, output.copies)


def new_features_permuted(annotations: Tensor, first: int) -> Tensor:
    """The features from `first` on in another order: the norm of a cell stays as it was."""
    order = torch.randperm(annotations.shape[2] - first, generator=torch.Generator().manual_seed(0))
    return torch.cat([annotations[..., :first], annotations[..., first:][..., order]], dim=2)


def test_widening_takes_all_of_the_source_and_zeros_for_what_it_did_not_see(
    blind: CaptioningModel, widened: CaptioningModel
) -> None:
    assert widened.tagger is not None
    assert widened.feature_dim == blind.feature_dim + widened.tagger.feature_dim
    assert sees_more(widened, blind)
    assert not sees_more(blind, widened)
    assert overlap(widened, blind).keys() == blind.state_dict().keys()

    own = widened.state_dict()
    wider = 0
    for name, tensor in blind.state_dict().items():
        width = tensor.shape[-1]
        assert torch.equal(own[name][..., :width], tensor), name
        if own[name].dim() > 1 and own[name].shape != tensor.shape:
            assert not own[name][..., width:].any(), name
            wider += 1
    assert wider == 5  # keys, both of the first state, context of the cell and of the readout
    # they are not of the source, and stay
    assert widened.get_parameter("decoder.tags.seen.weight").any()
    assert widened.get_parameter("decoder.tags.gain").mean() > 0


@torch.no_grad()
def test_widened_captioner_reads_what_the_source_read_and_nothing_new(
    blind: CaptioningModel, widened: CaptioningModel, annotations: Tensor
) -> None:
    logits = read(widened.decoder, annotations)

    moved = new_features_permuted(annotations, blind.feature_dim)
    torch.testing.assert_close(read(widened.decoder, moved), logits)
    moved = annotations.roll(1, dims=2)
    assert (read(widened.decoder, moved) - logits).abs().max() > 0.01


@torch.no_grad()
def test_widened_captioner_hears_of_tags_by_their_words_alone_once_they_are_told(
    widened: CaptioningModel, annotations: Tensor
) -> None:
    tags = random_tags(2, 3, LOCATIONS)
    tags.values[..., 0] = CLASS_OF_CUPS
    without = read(widened.decoder, annotations)
    torch.testing.assert_close(read(widened.decoder, annotations, tags), without)
    vocabulary = Vocabulary(KNOWN)

    tell_words(widened, vocabulary)

    assert isinstance(widened.decoder, AttentionDecoder)
    assert widened.decoder.tags is not None
    told = widened.decoder.tags.class_words
    assert torch.equal(told, torch.tensor(class_word_ids(vocabulary)))
    gained = read(widened.decoder, annotations, tags) - without
    words = {each for each in told[CLASS_OF_CUPS].tolist() if each}
    assert vocabulary.ids(["cup"])[0] in words
    for word in range(len(vocabulary)):
        if word in words:
            assert (gained[..., word] > 0.01).all()
        else:
            torch.testing.assert_close(gained[..., word], torch.zeros(2, 4))


def test_tell_words_leaves_a_decoder_without_tags_as_it_is(blind: CaptioningModel) -> None:
    transformer = build_model(
        seeing_config(decoder=TransformerConfig(embed_dim=8, layers=1, heads=2), tagger=None)
    )
    for model in (blind, transformer):
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

        tell_words(model, Vocabulary(KNOWN))

        after = model.state_dict()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def pair_of_tiny() -> Encoder:
    """The tiny encoder, and one more network beside it."""
    first, second = build_encoder("tiny", 56), build_encoder("tiny", 56)
    normalization = Normalization((127.5,) * 3, (127.5,) * 3)
    body = FusedEncoder(
        first.body,
        second.body,
        size_pixels=56,
        crop=slice(0, 56),
        normalizations=(normalization, normalization),
        scale=1.0,
    )
    return Encoder(body, feature_dim=128, stride=4, offset_pixels=0.0, size_pixels=56)


def test_one_more_encoder_before_a_tagger_leaves_the_taggers_features_their_columns() -> None:
    """The second encoder's features stand between the first's and the tagger's."""

    def captioner(encoder: Encoder) -> CaptioningModel:
        tagger = Tagger(TaggerConfig(), encoder.grid)
        decoder = AttentionConfig(embed_dim=8, decoder_dim=12, attention_dim=6, tags=True)
        width = encoder.feature_dim + tagger.feature_dim
        return CaptioningModel(encoder, decoder.build(15, width), tagger)

    one = captioner(build_encoder("tiny", 56))
    pair = captioner(pair_of_tiny())

    initialize_from(pair, one)

    assert sees_more(pair, one)
    for name in ("attention.key.weight", "tags.seen.weight", "lstm_context.weight"):
        source, own = (each.get_parameter(f"decoder.{name}") for each in (one, pair))
        assert torch.equal(own[:, :64], source[:, :64]), name
        assert torch.equal(own[:, 128:], source[:, 64:]), name
        assert not own[:, 64:128].any(), name
