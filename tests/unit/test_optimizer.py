"""The optimizer trains what a stage says and nothing else; the rate rises, falls, and stays in [0,
1]."""

from itertools import pairwise

import pytest

from models.config import ModelConfig
from models.decoders.config import AttentionConfig
from models.encoders import default_preprocess
from models.network import CaptioningModel, build_model
from tests.unit.seeing_toys import seeing_config
from training.optimizer import build_optimizer, rate_at


@pytest.fixture
def model() -> CaptioningModel:
    config = ModelConfig(
        name="tiny",
        encoder="tiny",
        vocab_size=9,
        decoder=AttentionConfig(embed_dim=4, decoder_dim=6, attention_dim=5),
        preprocess=default_preprocess("tiny", 56),
    )
    return build_model(config)


@pytest.mark.parametrize(
    ("freeze_words", "encoder_rate", "trained", "still"),
    [
        (False, None, "decoder.embedding.weight", "encoder."),
        (True, None, "decoder.gate.weight", "decoder.embedding."),
        (True, None, "decoder.gate.weight", "decoder.output."),
        (False, 5e-5, "encoder.", "nothing"),
    ],
)
def test_build_optimizer_trains_what_it_is_told_to(
    model: CaptioningModel,
    freeze_words: bool,
    encoder_rate: float | None,
    trained: str,
    still: str,
) -> None:
    optimizer = build_optimizer(
        model,
        learning_rate=1e-3,
        weight_decay=0.02,
        freeze_words=freeze_words,
        encoder_learning_rate=encoder_rate,
    )

    names = {id(parameter): name for name, parameter in model.named_parameters()}
    chosen = [
        names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]
    ]
    assert len(chosen) == len(set(chosen))
    assert any(name.startswith(trained) for name in chosen)
    assert not any(name.startswith(still) for name in chosen)
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == set(
        chosen
    )


@pytest.mark.parametrize("encoder_rate", [None, 5e-5])
@pytest.mark.parametrize("freeze_words", [False, True])
def test_build_optimizer_never_trains_the_tagger_and_always_the_attention_to_tags(
    freeze_words: bool, encoder_rate: float | None
) -> None:
    model = build_model(seeing_config())
    assert model.tagger is not None
    model.tagger.requires_grad_(True)

    optimizer = build_optimizer(
        model,
        learning_rate=1e-3,
        weight_decay=0.02,
        freeze_words=freeze_words,
        encoder_learning_rate=encoder_rate,
    )

    chosen = {id(each) for group in optimizer.param_groups for each in group["params"]}
    for name, parameter in model.named_parameters():
        if name.startswith("tagger."):
            assert id(parameter) not in chosen, name
            assert not parameter.requires_grad, name
        if "tags" in name.split(".", 1)[1]:
            assert id(parameter) in chosen, name
    assert any(name.startswith("decoder.tags.") for name, _ in model.named_parameters())


def test_build_optimizer_matrices_decay_and_vectors_do_not(model: CaptioningModel) -> None:
    optimizer = build_optimizer(
        model, learning_rate=2.0, weight_decay=0.5, encoder_learning_rate=5e-5
    )

    for group in optimizer.param_groups:
        assert {parameter.ndim > 1 for parameter in group["params"]} == {
            group["weight_decay"] == 0.5
        }
    assert {group["base_rate"] for group in optimizer.param_groups} == {2.0, 5e-5}


def test_rate_at_rises_to_one_and_falls_to_the_final_fraction() -> None:
    rates = [rate_at(done / 100, warmup_fraction=0.1, final_fraction=0.25) for done in range(101)]

    assert rates[0] == pytest.approx(0, abs=1e-6)
    assert rates[10] == pytest.approx(1)
    assert rates[-1] == pytest.approx(0.25)
    assert all(one < other for one, other in pairwise(rates[:11]))
    assert all(one > other for one, other in pairwise(rates[10:]))
