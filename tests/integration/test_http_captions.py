"""`/caption`, `/attention` and `/models` as the contract says: shapes, options, geometry,
drawings."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import pillow_heif
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.core.settings import DEFAULT_MODEL
from models.preprocessing import ACCEPTED_FORMATS


def upload(data: bytes, name: str = "photo.jpg") -> dict[str, tuple[str, bytes, str]]:
    return {"image": (name, data, "image/jpeg")}


def answer(client: TestClient, path: str, data: bytes, **options: Any) -> dict[str, Any]:
    response = client.post(path, files=upload(data), params=options)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


def test_caption_answer_has_the_contracts_shape(client: TestClient, image_file: bytes) -> None:
    document = answer(client, "/caption", image_file)
    assert document["caption"] == document["captions"][0]["text"]
    assert document["image"] == {"width": 96, "height": 64, "format": "JPEG"}
    assert set(document["model"]) == {"name", "digest"}
    assert {"queue_seconds", "compute_seconds"} <= set(document["timing"])
    assert all(seconds >= 0 for seconds in document["timing"].values())
    best = document["captions"][0]
    assert set(best) == {"text", "logprob", "confidence", "words"}
    assert " ".join(word["word"] for word in best["words"]) == best["text"]
    for word in best["words"]:
        assert set(word) == {"word", "probability", "confidence"}
        assert 0 <= word["probability"] <= 1


def test_attention_answer_has_the_contracts_shape(client: TestClient, image_file: bytes) -> None:
    document = answer(client, "/attention", image_file)
    assert document["grid"] == {"rows": 14, "columns": 14, "box": [0, 0, 96, 64]}
    assert "soft attention" in document["maps"]
    assert " ".join(word["word"] for word in document["words"]) == document["caption"]
    for word in document["words"]:
        assert set(word) == {"word", "probability", "confidence", "alpha", "beta"}
        assert [len(row) for row in word["alpha"]] == [14] * 14
        assert sum(map(sum, word["alpha"])) == pytest.approx(1.0, abs=1e-4)
        assert min(map(min, word["alpha"])) >= 0


@pytest.mark.parametrize("path", ["/caption", "/attention"])
def test_confidence_of_a_model_without_calibration_is_the_probability(
    client: TestClient, image_file: bytes, path: str
) -> None:
    document = answer(client, path, image_file)
    words = document["words"] if path == "/attention" else document["captions"][0]["words"]
    assert document["calibrated"] is False
    assert all(word["confidence"] == word["probability"] for word in words)


def test_caption_same_image_gives_the_same_answer(client: TestClient, image_file: bytes) -> None:
    assert (
        answer(client, "/caption", image_file)["captions"]
        == answer(client, "/caption", image_file)["captions"]
    )


@pytest.mark.parametrize("place", ["params", "data"])
def test_caption_options_count_in_the_address_and_in_the_form(
    client: TestClient, image_file: bytes, place: str
) -> None:
    options: Any = {place: {"num_captions": "3", "max_length": "2", "model": DEFAULT_MODEL}}
    document = client.post("/caption", files=upload(image_file), **options).json()
    assert [len(caption["words"]) for caption in document["captions"]] == [2, 2, 2]


def test_attention_answer_has_every_caption_with_its_maps_where_several_are_asked_for(
    client: TestClient, image_file: bytes
) -> None:
    assert "captions" not in answer(client, "/attention", image_file)
    options = {"num_captions": 3}
    several = client.post("/attention", files=upload(image_file), params=options).json()
    expected = client.post("/caption", files=upload(image_file), params=options).json()
    assert several["captions"][0]["words"] == several["words"]
    for caption in several["captions"]:
        for word in caption["words"]:
            assert sum(map(sum, word.pop("alpha"))) == pytest.approx(1.0, abs=1e-4)
            word.pop("beta")
    assert several["captions"] == expected["captions"]


def test_caption_empty_form_field_counts_as_left_out(client: TestClient, image_file: bytes) -> None:
    response = client.post(
        "/caption", files=upload(image_file), data={"beam_size": "", "num_captions": " "}
    )
    assert response.status_code == 200


def test_caption_same_option_twice_is_no_contradiction(
    client: TestClient, image_file: bytes
) -> None:
    response = client.post(
        "/caption", files=upload(image_file), params={"beam_size": 3}, data={"beam_size": "3"}
    )
    assert response.status_code == 200


def turned(upright: Image.Image, orientation: int, file_format: str) -> bytes:
    """A file whose pixels are stored turned, and whose EXIF says how a person sees them."""
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = BytesIO()
    stored = upright if undo is None else upright.transpose(undo)
    stored.save(file, format=file_format, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_attention_rotated_file_gives_the_upright_images_maps_and_box(
    client: TestClient, upright: Image.Image, orientation: int
) -> None:
    expected = answer(client, "/attention", turned(upright, 1, "PNG"))
    document = answer(client, "/attention", turned(upright, orientation, "PNG"))
    assert document["grid"]["box"] == [0, 0, 96, 64]
    assert document["image"] == {"width": 96, "height": 64, "format": "PNG"}
    assert document["words"] == expected["words"]


def test_attention_rotated_phone_image_puts_the_bright_spot_where_a_person_sees_it(
    client: TestClient, upright: Image.Image
) -> None:
    document = answer(client, "/attention", turned(upright, 6, "JPEG"))
    alpha = document["words"][-1]["alpha"]
    row, column = max(
        ((y, x) for y in range(14) for x in range(14)), key=lambda cell: alpha[cell[0]][cell[1]]
    )
    left, top, right, bottom = document["grid"]["box"]
    center = (left + (column + 0.5) * (right - left) / 14, top + (row + 0.5) * (bottom - top) / 14)
    assert 70 <= center[0] <= 90
    assert 4 <= center[1] <= 20


def png_size(response: Any) -> tuple[int, int]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    assert response.headers["vary"] == "Accept"
    with Image.open(BytesIO(response.content)) as drawing:
        assert drawing.format == "PNG"
        return drawing.size


def test_attention_png_draws_a_panel_for_each_word_or_one_word(
    client: TestClient, image_file: bytes
) -> None:
    everything = png_size(client.post("/attention?format=png", files=upload(image_file)))
    one = png_size(client.post("/attention?format=png&word=2", files=upload(image_file)))
    assert everything > one


def test_attention_png_of_a_large_image_stays_within_the_overlays_side(
    upright: Image.Image, serve: Callable[..., Any]
) -> None:
    file = BytesIO()
    upright.resize((1800, 1200)).save(file, format="PNG")
    with serve(overlay_side_pixels=300) as small:
        size = png_size(small.post("/attention?format=png&word=0", files=upload(file.getvalue())))
    assert max(size) == 300


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("image/png", "image/png"),
        ("image/*", "image/png"),
        ("image/png, application/json;q=0.5", "image/png"),
        ("application/json, image/png;q=0.9", "application/json"),
        ("application/json, image/png", "application/json"),
        ("*/*", "application/json"),
        ("text/html", "application/json"),
        ("image/png;q=nonsense", "application/json"),
    ],
)
def test_attention_accept_header_chooses(
    client: TestClient, image_file: bytes, accept: str, content_type: str
) -> None:
    response = client.post("/attention", files=upload(image_file), headers={"Accept": accept})
    assert response.headers["content-type"] == content_type


def test_attention_format_beats_accept(client: TestClient, image_file: bytes) -> None:
    response = client.post(
        "/attention?format=json", files=upload(image_file), headers={"Accept": "image/png"}
    )
    assert response.json()["words"]


def test_models_lists_and_describes_the_loaded_one(client: TestClient) -> None:
    listed = client.get("/models").json()["models"]
    assert [model["name"] for model in listed] == [DEFAULT_MODEL]
    described = client.get(f"/models/{DEFAULT_MODEL}").json()
    assert described == listed[0]
    assert described["loaded"] is described["default"] is True
    assert described["config"]["decoding"]["beam_size"] >= 1


def test_caption_form_field_without_a_file_name_is_captioned(
    client: TestClient, image_file: bytes
) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n'
        + image_file
        + b"\r\n--x--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = client.post("/caption", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    expected = client.post("/caption", files={"image": ("photo.jpg", image_file)}).json()
    assert answer.json()["caption"] == expected["caption"]


def test_caption_field_whose_name_is_image_in_its_charset_alone_is_no_file(
    client: TestClient,
) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="+AGk-mage"\r\n\r\nhello\r\n--x--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x; charset=utf-7"}
    answer = client.post("/caption", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["type"] == "/problems/image-not-a-file"


# --- what is missing of a picture ----


@pytest.mark.parametrize("path", ["/caption", "/attention"])
def test_answer_warns_of_what_is_missing_and_of_nothing_else(
    client: TestClient, upright: Image.Image, path: str
) -> None:
    file = BytesIO()
    upright.resize((320, 640)).save(file, "JPEG")
    whole = file.getvalue()
    assert "warnings" not in answer(client, path, whole)
    assert "warnings" not in answer(client, path, whole[:-2])  # a browser shows it whole
    document = answer(client, path, whole[: -len(whole) // 8] + b"\xff\xd9")
    (warning,) = document["warnings"]
    assert warning.startswith("The JPEG file ends early: ")
    assert warning.endswith(" % of the picture is missing.")


def test_caption_formats_that_the_setting_leaves_out_are_refused(
    serve: Callable[..., Any], image_file: bytes
) -> None:
    heif = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)
    with serve(formats="png,jpeg") as client:
        assert client.post("/caption", files=upload(image_file)).status_code == 200
        refused = client.post("/caption", files=upload(heif))
    assert refused.status_code == 415
    assert refused.json()["type"] == "/problems/unreadable-image"
    assert "Accepted formats: JPEG, PNG. On an iPhone: Settings" in refused.json()["detail"]


def test_caption_heic_is_captioned(client: TestClient, upright: Image.Image) -> None:
    file = BytesIO()
    pillow_heif.from_pillow(upright).save(file)
    document = answer(client, "/caption", file.getvalue())
    assert document["image"] == {"width": 96, "height": 64, "format": "HEIC"}


@pytest.mark.parametrize("name", [name for name in ACCEPTED_FORMATS if name != "HEIC"])
def test_service_that_accepts_one_format_alone_becomes_ready(
    serve: Callable[..., Any], upright: Image.Image, name: str
) -> None:
    file = BytesIO()
    upright.save(file, name)
    with serve(formats=name) as client:
        assert answer(client, "/caption", file.getvalue())["image"]["format"] == name
