"""What Schemathesis sends where the API's document asks for the bytes of a file: real pictures,
pictures that are cut short, and whatever it finds by itself. And it is patient: a client that waits
for no time at all is rightly answered 503, which Schemathesis takes for a failing server."""

from contextlib import suppress
from io import BytesIO
from typing import Any

import schemathesis
from hypothesis import strategies as st
from PIL import Image

PATIENCE_SECONDS = 30


def picture(form: str, size: tuple[int, int]) -> bytes:
    file = BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(file, format=form)
    return file.getvalue()


PICTURES = [
    picture(form, size) for form in ("JPEG", "PNG", "WEBP", "GIF") for size in ((40, 30), (16, 64))
]


@st.composite
def cut_short(draw: st.DrawFn) -> bytes:
    whole = draw(st.sampled_from(PICTURES))
    return whole[: draw(st.integers(0, len(whole)))]


schemathesis.openapi.format(
    "binary",
    st.one_of(st.sampled_from(PICTURES), cut_short(), st.binary(max_size=64)),
)


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    headers = case.headers or {}
    for name in [name for name in headers if name.lower() == "x-request-timeout-seconds"]:
        with suppress(ValueError):
            if 0 < float(headers[name]) < PATIENCE_SECONDS:
                headers[name] = str(PATIENCE_SECONDS)
