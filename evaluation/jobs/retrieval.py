"""Measure the matching models on the test split, write their page, and draw what queries find."""

from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from evaluation.jobs.bundles import Messages, repeated_command
from evaluation.jobs.matching_measurement import MATCHING_PAGE, Measurement, RetrievalRequest
from evaluation.matching_results import FoundPhotos, MatchingResults, write_results
from evaluation.report.contact_sheet import draw_contact_sheet
from evaluation.report.map_sheets import encode_jpeg
from evaluation.report.matching_page import render_matching
from models.bundles.reading import add_metrics
from models.errors import ConfigError
from models.matching.bundle import matching_folder
from models.preprocessing import decode_image
from training.data.datasets import CaptionedImage
from training.matching.config import load_match_config

__all__ = ["MATCHING_PAGE", "RetrievalRequest", "measure_retrieval"]

_SHEET_PIXELS = 180


def measure_retrieval(request: RetrievalRequest, messages: Messages) -> None:
    """Measure everything, and write the page, its JSON, and each bundle's metrics.json.

    Raises GlimpseError where a bundle or the data cannot be used.
    """
    config = load_match_config(request.experiment, request.data_folder)
    if not config.test:
        raise ConfigError(f"{request.experiment} has no test set to measure on.")
    with tqdm(unit="photo", desc="photos") as bar:
        measured = Measurement(request, config, messages, bar.update)
        results = measured.measure()
    page = render_matching(results, repeated_command("retrieval", None))
    if request.limit is not None:
        messages.say(page)
    else:
        request.output.parent.mkdir(parents=True, exist_ok=True)
        request.output.write_text(page, encoding="utf-8")
        document = request.output.with_suffix(".json")
        write_results(document, results)
        messages.say_written([request.output, document])
        _write_metrics(request, results, messages)
    if request.photos_sheet is not None:
        request.photos_sheet.write_bytes(_draw(results.queries, measured.test.images))
        messages.say_written([request.photos_sheet])


def _write_metrics(request: RetrievalRequest, results: MatchingResults, messages: Messages) -> None:
    """Put into each bundle's metrics.json what was measured of it."""
    whole = results.model_dump(mode="json")
    kept: dict[str, dict[str, Any]] = {
        request.finder: {"found": whole["found"]},
        request.reranker: {
            "reranked": whole["reranked"],
            "judged": whole["judged"],
            "captions_chosen": whole["captions_chosen"],
        },
        request.filler: {},
    }
    for name, metrics in kept.items():
        if name not in results.digests:
            continue
        for key in ("words", "regions"):
            if name in whole[key]:
                metrics[key] = whole[key][name]
        folder = matching_folder(request.weights_folder, name)
        add_metrics(folder, {"photos": results.photos, **metrics})
        messages.say_written([folder / "metrics.json"])


def _draw(queries: Sequence[FoundPhotos], images: Sequence[CaptionedImage]) -> bytes:
    """Draw a row of photos for each query, which stands below the first."""
    paths = {image.key: image.path for image in images}
    cells = []
    for each in queries:
        for place, key in enumerate(each.photos):
            path = paths[key]
            assert path is not None  # the gallery has seen it
            image = decode_image(path.read_bytes(), side_pixels=_SHEET_PIXELS).rgb
            cells.append((each.query if place == 0 else "", image))
    columns = max(len(each.photos) for each in queries)
    return encode_jpeg(draw_contact_sheet(cells, _SHEET_PIXELS, columns), float("inf"))
