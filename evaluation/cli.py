"""The commands of `glimpse-train` that measure bundles: evaluate, table, maps, calibrate, sixty,
ablation, retrieval, translations.

Thin: each reads its arguments and calls one job, which prints through `Messages`.
"""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from evaluation.jobs.ablation import AblationRequest, ablate
from evaluation.jobs.bundles import Messages
from evaluation.jobs.calibrate import CalibrateRequest, calibrate_bundles
from evaluation.jobs.evaluate import EvaluateRequest, evaluate_bundle
from evaluation.jobs.maps import MapsRequest, map_bundles
from evaluation.jobs.retrieval import MATCHING_PAGE, RetrievalRequest, measure_retrieval
from evaluation.jobs.sixty import SIXTY_PAGE, SixtyRequest, write_sixty_page
from evaluation.jobs.table import RESULTS_PAGE, TableRequest, compare_bundles
from evaluation.jobs.translations import TranslationsRequest, measure_translations
from evaluation.options import (
    ComparedModels,
    DataFolder,
    ExperimentFile,
    MoreBundles,
    PageFile,
    PageModels,
    PhotosPage,
    PrecisionName,
    QuickLook,
    ReadmeFile,
    WeightsFolder,
    WithoutMeteor,
)
from evaluation.report.catalog import read_catalog
from training.config import load_config

__all__ = [
    "ablation",
    "calibrate",
    "evaluate",
    "maps",
    "retrieval",
    "sixty",
    "table",
    "translations",
]

_MESSAGES = Messages(say=typer.echo, warn=partial(typer.echo, err=True))


def evaluate(
    experiment: ExperimentFile,
    data_folder: DataFolder = Path("data"),
    weights_folder: WeightsFolder = Path("weights"),
    beam_size: Annotated[
        int | None, typer.Option(help="Instead of the bundle's own.", min=1, max=20)
    ] = None,
    length_penalty: Annotated[
        float | None, typer.Option(help="Instead of the bundle's own.", min=0, max=2)
    ] = None,
    avoid_echoes: Annotated[
        bool | None,
        typer.Option("--avoid-echoes/--allow-echoes", help="Instead of the bundle's own."),
    ] = None,
    precision: PrecisionName = "auto",
    dev_only: Annotated[
        bool, typer.Option("--dev-only", help="Leave the test sets unseen.")
    ] = False,
    captions_file: Annotated[
        Path | None, typer.Option(help="Write each photo's caption here, as JSON Lines.")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Put the result into the bundle's metrics.json.")
    ] = False,
    without_meteor: WithoutMeteor = False,
) -> None:
    """Score a bundle on the experiment's dev and test sets, captioning exactly as the service does.

    Prints BLEU-1 to BLEU-4, ROUGE-L, CIDEr-D and METEOR, the shares that name the main object and
    that echo, and how far they are from the bundle's metrics.json.
    """
    request = EvaluateRequest(
        config=load_config(experiment, data_folder),
        weights_folder=weights_folder,
        beam_size=beam_size,
        length_penalty=length_penalty,
        avoid_echoes=avoid_echoes,
        precision=precision,
        dev_only=dev_only,
        captions_file=captions_file,
        write=write,
        with_meteor=not without_meteor,
    )
    evaluate_bundle(request, _MESSAGES)


def table(
    experiment: Annotated[
        Path, typer.Option(help="Its test and dev sets are measured on.", dir_okay=False)
    ] = Path("training/configs/base.toml"),
    data_folder: DataFolder = Path("data"),
    weights_folder: WeightsFolder = Path("weights"),
    models: ComparedModels = None,
    also: MoreBundles = None,
    output: PageFile = None,
    readme: ReadmeFile = None,
    without_meteor: WithoutMeteor = False,
    limit: QuickLook = None,
) -> None:
    """Measure every bundle on the same photos, as the service captions them, and write
    docs/results.md.

    Scores with bootstrap intervals, which differences are real, milliseconds here, captions side by
    side; into each bundle's metrics.json goes what is its own. METEOR needs Java.
    """
    request = TableRequest(
        experiment=experiment,
        data_folder=data_folder,
        weights_folder=weights_folder,
        models=models,
        also=also,
        output=output,
        readme=readme,
        with_meteor=not without_meteor,
        limit=limit,
    )
    compare_bundles(request, _MESSAGES)


def maps(
    experiment: Annotated[
        Path, typer.Option(help="Its first test and dev set are measured on.", dir_okay=False)
    ] = Path("training/configs/base.toml"),
    data_folder: DataFolder = Path("data"),
    weights_folder: WeightsFolder = Path("weights"),
    models: Annotated[
        str | None, typer.Option(help="Only these; else every bundle that has maps of its own.")
    ] = None,
    output: Annotated[
        Path, typer.Option(help="The results page; maps.md and images/ lie beside it.")
    ] = RESULTS_PAGE,
    boxes_folder: Annotated[
        str, typer.Option(help="Photos with boxes of objects, below the data folder.")
    ] = "boxes",
    page_models: PageModels = "soft-attention,glimpse",
    write_page: Annotated[
        bool, typer.Option("--page/--no-page", help="Whether to write maps.md.")
    ] = True,
    with_photos: PhotosPage = None,
    limit: QuickLook = None,
) -> None:
    """Measure where the bundles look, put it into docs/results.md beside the table, and write
    docs/maps.md.

    Attention correctness, pointing and deletion, with bootstrap intervals; into each bundle's
    metrics.json goes what is its own.
    """
    request = MapsRequest(
        experiment=experiment,
        data_folder=data_folder,
        weights_folder=weights_folder,
        output=output,
        boxes_folder=boxes_folder,
        page_models=page_models,
        models=models,
        write_page=write_page,
        with_images=with_photos,
        limit=limit,
    )
    map_bundles(request, _MESSAGES)


def calibrate(
    experiment: ExperimentFile,
    models: Annotated[
        str | None, typer.Option(help="Bundles, with commas between; else the experiment's own.")
    ] = None,
    data_folder: DataFolder = Path("data"),
    weights_folder: WeightsFolder = Path("weights"),
    precision: PrecisionName = "auto",
) -> None:
    """Fit bundles' confidences to what people said of the experiment's dev photos, and measure them
    on its test sets.

    Writes the calibration into config.json, the errors into metrics.json, and the curve as
    reliability.svg; prints lines for the model card. Models with one encoder share its work.
    """
    request = CalibrateRequest(
        experiment=experiment,
        data_folder=data_folder,
        weights_folder=weights_folder,
        models=models,
        precision=precision,
    )
    calibrate_bundles(request, _MESSAGES)


def sixty(
    model: Annotated[
        str | None, typer.Option(help="The bundle that captions; else the default model.")
    ] = None,
    experiment: Annotated[
        Path, typer.Option(help="Its everyday dev photos are chosen from.", dir_okay=False)
    ] = Path("training/configs/base.toml"),
    data_folder: DataFolder = Path("data"),
    weights_folder: WeightsFolder = Path("weights"),
    precision: PrecisionName = "auto",
    output: Annotated[
        Path, typer.Option(help="The page; its captions and verdicts lie beside it as JSON.")
    ] = SIXTY_PAGE,
    photos_sheet: Annotated[
        Path | None,
        typer.Option(help="Draw all pictures on a JPEG to judge by; it may not be passed on."),
    ] = None,
) -> None:
    """Caption sixty pictures of things that people upload, and write docs/sixty.md.

    Verdicts given by hand are kept in docs/sixty-verdicts.json; a new caption gets an empty place
    there: fill it in, and run this again.
    """
    request = SixtyRequest(
        experiment=experiment,
        data_folder=data_folder,
        weights_folder=weights_folder,
        model=model or read_catalog().project.default_model,
        output=output,
        precision=precision,
        photos_sheet=photos_sheet,
    )
    write_sixty_page(request, _MESSAGES)


def ablation(
    experiment: ExperimentFile,
    data_folder: DataFolder = Path("data"),
    weights_folder: WeightsFolder = Path("weights"),
    precision: PrecisionName = "auto",
    limit: QuickLook = None,
) -> None:
    """Measure what objects, concepts and copying are worth to a bundle, on the experiment's dev
    photos.

    One set of weights: what is left out is left out when captioning. Prints a table.
    """
    request = AblationRequest(
        experiment=experiment,
        data_folder=data_folder,
        weights_folder=weights_folder,
        precision=precision,
        limit=limit,
    )
    ablate(request, _MESSAGES)


def retrieval(
    experiment: Annotated[
        Path,
        typer.Option(help="Its test set is measured on, its dev set chooses.", dir_okay=False),
    ] = Path("training/configs/matching/nce.toml"),
    data_folder: DataFolder = Path("data"),
    weights_folder: WeightsFolder = Path("weights"),
    finder: Annotated[str, typer.Option(help="The nce below weights/matching.")] = "nce",
    reranker: Annotated[str, typer.Option(help="The vilbert; left out if absent.")] = "vilbert",
    filler: Annotated[str, typer.Option(help="The vl-bert; left out if absent.")] = "vl-bert",
    candidates: Annotated[
        int | None,
        typer.Option(help="Re-ranked, each way, instead of the experiment's.", min=1, max=200),
    ] = None,
    output: Annotated[
        Path, typer.Option(help="The page; its figures lie beside it as JSON.")
    ] = MATCHING_PAGE,
    precision: PrecisionName = "auto",
    photos_sheet: Annotated[
        Path | None,
        typer.Option(help="Draw what twelve queries find on a JPEG; it may not be passed on."),
    ] = None,
    limit: QuickLook = None,
) -> None:
    """Measure how well photos and sentences are matched, and write docs/matching.md.

    Recall and median rank both ways, blanks filled, hidden regions guessed, pairs told apart, and
    captions chosen, with bootstrap intervals; into each bundle's metrics.json goes what is its own.
    """
    request = RetrievalRequest(
        experiment=experiment,
        data_folder=data_folder,
        weights_folder=weights_folder,
        output=output,
        finder=finder,
        reranker=reranker,
        filler=filler,
        candidates=candidates,
        precision=precision,
        photos_sheet=photos_sheet,
        limit=limit,
    )
    measure_retrieval(request, _MESSAGES)


def translations(
    experiments_folder: Annotated[
        Path,
        typer.Option(
            help="The translators' TOML files, which name the test sets.", file_okay=False
        ),
    ] = Path("training/configs/languages"),
    data_folder: DataFolder = Path("data"),
    weights_folder: WeightsFolder = Path("weights"),
    models: ComparedModels = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="The page, with a JSON of the same name; docs/translations.md, but none with "
            "--models."
        ),
    ] = None,
    sentences_folder: Annotated[
        Path | None,
        typer.Option(help="Write each sentence and its translations here, as JSON Lines."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help="A quick look at the first sentences of each set: printed, nothing written.", min=2
        ),
    ] = None,
) -> None:
    """Measure every translator on the test sets of its experiment, and write docs/translations.md.

    BLEU and chrF by sacrebleu with bootstrap intervals, which differences are real, and BLEU by the
    length of the source, also as a picture.
    """
    request = TranslationsRequest(
        experiments_folder=experiments_folder,
        data_folder=data_folder,
        weights_folder=weights_folder,
        names=models,
        output=output,
        sentences_folder=sentences_folder,
        limit=limit,
    )
    measure_translations(request, _MESSAGES)
