"""The faster precision: by what was timed, once, and never bfloat16 for nothing."""

from collections.abc import Iterator

import pytest
import torch

from models import precision
from models.precision import faster_precision


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    faster_precision.cache_clear()
    yield
    faster_precision.cache_clear()


@pytest.mark.parametrize(
    ("bfloat16_seconds", "expected"),
    [(0.3, "bfloat16"), (0.8, "bfloat16"), (0.81, "float32"), (1.7, "float32")],
)
def test_faster_precision_is_bfloat16_only_where_it_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, bfloat16_seconds: float, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)

    def timed(image: torch.Tensor, kernel: torch.Tensor) -> float:
        assert image.dtype == kernel.dtype
        return bfloat16_seconds if image.dtype == torch.bfloat16 else 1.0

    monkeypatch.setattr(precision, "_seconds", timed)

    chosen = faster_precision()
    assert chosen.precision == expected
    assert f"{bfloat16_seconds:.2f} of the time" in chosen.reason


def test_faster_precision_is_not_misled_by_what_disturbs_the_machine_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    timed_before: list[None] = []

    def timed(image: torch.Tensor, _kernel: torch.Tensor) -> float:
        timed_before.append(None)
        disturbed = 5.0 if len(timed_before) <= 20 else 1.0
        return disturbed * (0.5 if image.dtype == torch.bfloat16 else 1.0)

    monkeypatch.setattr(precision, "_seconds", timed)

    assert faster_precision().precision == "bfloat16"


def test_faster_precision_without_the_instructions_is_float32_untimed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(precision, "_seconds", lambda *_: pytest.fail("timed"))

    assert faster_precision().precision == "float32"


def test_faster_precision_is_the_same_for_the_whole_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = faster_precision()
    monkeypatch.setattr(precision, "_seconds", lambda *_: pytest.fail("timed again"))

    assert faster_precision() == first
