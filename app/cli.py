"""The command `glimpse`: reads arguments, calls one function, prints. Knows no HTTP.

What needs PyTorch is imported by the command that needs it: the others, and help, come at once.
"""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from app import __version__
from app.commands.options import (
    BeamSize,
    CpusPerWorker,
    Format,
    Json,
    KeepTimes,
    LengthPenalty,
    MaxLength,
    MaxWorkers,
    MinWorkers,
    ModelName,
    NumCaptions,
    Out,
    Output,
    OverwriteXmp,
    Photo,
    Photos,
    Quiet,
    RayAddress,
    Source,
    Word,
    WriteXmp,
    decoding_options,
)
from app.core.errors import KeysFileError, SettingsError
from app.core.keys import ApiKey, add_key, read_keys, revoke_key
from app.core.logging import configure_logging
from app.core.settings import Settings, load_settings, unknown_variables
from app.core.settings.table import settings_table
from app.engine.compute_thread import has_running_threads

__all__ = ["cli", "main"]

cli = typer.Typer(
    name="glimpse",
    help="Glimpse: a photo in, a sentence out, and where it looked.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

keys = typer.Typer(help="API keys, in the file that GLIMPSE_KEYS_FILE names.", no_args_is_help=True)
cli.add_typer(keys, name="keys")

_logger = logging.getLogger(__name__)
_CANNOT_START = 2


def _say_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"glimpse {__version__}")
        raise typer.Exit


@cli.callback()
def about(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_say_version, help="Say which one it is."
        ),
    ] = False,
) -> None:
    """Glimpse: a photo in, a sentence out, and where it looked."""


@cli.command()
def caption(
    sources: Photos,
    as_json: Json = False,
    model: ModelName = None,
    beam_size: BeamSize = None,
    num_captions: NumCaptions = None,
    max_length: MaxLength = None,
    length_penalty: LengthPenalty = None,
) -> None:
    """Say in a sentence what each photo shows. No server is needed.

    Ends with 0 where all were captioned, 1 where some were not, 2 where it cannot work at all.
    """
    settings = _offline_settings(model)
    options = decoding_options(beam_size, num_captions, max_length, length_penalty)
    from app.commands.caption import caption_files
    from app.commands.terminal import run_command

    raise typer.Exit(run_command(caption_files(settings, sources, options, as_json=as_json)))


@cli.command()
def attention(
    photo: Photo,
    output: Output = None,
    word: Word = None,
    as_json: Json = False,
    model: ModelName = None,
    beam_size: BeamSize = None,
    max_length: MaxLength = None,
    length_penalty: LengthPenalty = None,
) -> None:
    """Show for each word of a photo's caption where the model looked. No server is needed."""
    if output is None and (not as_json or word is not None):
        raise typer.BadParameter("Name a file for the drawing: -o overlay.png", param_hint="-o")
    settings = _offline_settings(model)
    options = decoding_options(beam_size, None, max_length, length_penalty)
    from app.commands.attention import draw_attention
    from app.commands.terminal import run_command

    work = draw_attention(settings, photo, options, output=output, word=word, as_json=as_json)
    raise typer.Exit(run_command(work))


@cli.command()
def bulk(
    photos: Source,
    out: Out,
    output_format: Format = None,
    write_xmp: WriteXmp = False,
    overwrite_xmp: OverwriteXmp = False,
    keep_times: KeepTimes = False,
    quiet: Quiet = False,
    ray: RayAddress = None,
    min_workers: MinWorkers = 1,
    max_workers: MaxWorkers = 4,
    cpus_per_worker: CpusPerWorker = 2,
    model: ModelName = None,
    beam_size: BeamSize = None,
    num_captions: NumCaptions = None,
    max_length: MaxLength = None,
    length_penalty: LengthPenalty = None,
) -> None:
    """Caption photos, as many as there are, into one output.

    Killed at any moment, the same command goes on where it was. Photos that the output has are not
    captioned again. A bad photo is told of, in the output too, and harms no other.
    """
    if (overwrite_xmp or keep_times) and not write_xmp:
        raise typer.BadParameter("It says how files are written: add --write-xmp.")
    if min_workers > max_workers:
        raise typer.BadParameter("--min-workers is more than --max-workers.")
    settings = _offline_settings(model)
    from app.bulk.ray_runner import RayCluster
    from app.commands.bulk import BulkOrder, caption_folder
    from app.commands.terminal import run_command
    from app.xmp.embedding import XmpEmbedding

    embedding = XmpEmbedding(overwrite=overwrite_xmp, keep_times=keep_times) if write_xmp else None
    order = BulkOrder(
        source=photos,
        output=out,
        output_format=output_format,
        options=decoding_options(beam_size, num_captions, max_length, length_penalty),
        embedding=embedding,
        cluster=RayCluster(ray, min_workers, max_workers, cpus_per_worker) if ray else None,
        is_quiet=quiet,
    )
    raise typer.Exit(run_command(caption_folder(settings, order)))


@cli.command()
def models(as_json: Json = False) -> None:
    """List the models that there are, and how well each does."""
    settings = _offline_settings(None)
    from app.commands.models import list_models
    from app.commands.terminal import number_of

    raise typer.Exit(number_of(lambda: list_models(settings, as_json=as_json)))


@cli.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; 0.0.0.0 for every network.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    model: Annotated[
        str | None, typer.Option(help="The default model: a folder of the weights folder.")
    ] = None,
) -> None:
    """Start the service. Every setting is a GLIMPSE_... environment variable; `glimpse settings`
    lists them."""
    settings = _settings_or_exit(host=host, port=port, model=model)
    _check_access_or_exit(settings)
    configure_logging(settings.log_format, settings.log_level)
    for name, nearest in unknown_variables(os.environ).items():
        hint = f"; did you mean {nearest}?" if nearest else ""
        _logger.warning("%s is not a setting%s", name, hint)
    if settings.allow_anyone and not settings.keys_file:
        _logger.warning("no key is needed: whoever reaches %s is served", settings.host)
    # Imports PyTorch: commands that need no model do not wait for it.
    from app.server.run import run_server

    try:
        run_server(settings)
    except SettingsError as error:
        _refuse_to_start(error)


@cli.command()
def settings() -> None:
    """Print every setting, its default, its bounds and its meaning, as Markdown
    (docs/settings.md)."""
    typer.echo(settings_table(), nl=False)


@cli.command()
def openapi() -> None:
    """Print the service's OpenAPI document, as JSON."""
    from app.main import create_app

    document = create_app(Settings(captioner="fake")).openapi()
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


@keys.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Small letters, digits, hyphens: who will use it.")],
    expires: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="Days until it is no longer good.")
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(min=0, help="Its own limit; 0 is none. Else the service's.")
    ] = None,
    requests_per_day: Annotated[
        int | None, typer.Option(min=0, help="Its own limit; 0 is none. Else the service's.")
    ] = None,
) -> None:
    """Make a key and print it, this once: the file has only its digest."""
    try:
        text = add_key(
            _keys_file_or_exit(),
            name,
            now=datetime.now(UTC).replace(microsecond=0),
            expires_days=expires,
            requests_per_minute=requests_per_minute,
            requests_per_day=requests_per_day,
        )
    except KeysFileError as error:
        raise _failed(str(error)) from None
    typer.echo(text)


@keys.command("list")
def list_keys() -> None:
    """Print the keys' names, when each was made and expires, and its own limits."""
    try:
        found = read_keys(_keys_file_or_exit()).keys
    except KeysFileError as error:
        raise _failed(str(error)) from None
    now = datetime.now(UTC)
    for key in found:
        typer.echo(_describe(key, now))


@keys.command("revoke")
def revoke(name: Annotated[str, typer.Argument(help="The key's name.")]) -> None:
    """Take a key away: a running service refuses it about a second later."""
    try:
        revoke_key(_keys_file_or_exit(), name)
    except KeysFileError as error:
        raise _failed(str(error)) from None


def main() -> None:
    """Run the command line, and end also where a thread that computes hangs."""
    try:
        cli()
    except SystemExit as end:
        if has_running_threads():
            sys.stdout.flush()
            logging.shutdown()
            os._exit(end.code if isinstance(end.code, int) else 0)
        raise


def _describe(key: ApiKey, now: datetime) -> str:
    """Say in a line what the file says of a key."""
    notes = [f"made {key.created:%Y-%m-%d}"]
    if key.expires:
        notes.append(f"{'expired' if key.is_expired(now) else 'expires'} {key.expires:%Y-%m-%d}")
    for limit, window in ((key.requests_per_minute, "minute"), (key.requests_per_day, "day")):
        if limit is not None:
            notes.append(f"{limit or 'any number of'} requests a {window}")
    return f"{key.name}: {', '.join(notes)}"


def _failed(message: str) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(_CANNOT_START)


def _keys_file_or_exit() -> Path:
    path = _settings_or_exit().keys_file
    if path is None:
        raise _failed("GLIMPSE_KEYS_FILE is not set: it names the file that the keys are kept in.")
    return path


def _check_access_or_exit(settings: Settings) -> None:
    """End with a sentence where strangers would be served, or the keys cannot be read."""
    try:
        settings.check_who_may_ask()
        if settings.keys_file:
            read_keys(settings.keys_file)
    except KeysFileError as error:
        raise _failed(
            f"glimpse cannot start.\n{error} `glimpse keys add NAME` makes a key, and the file."
        ) from None
    except SettingsError as error:
        raise _failed(f"glimpse cannot start.\n{error}") from None


def _offline_settings(model: str | None) -> Settings:
    """Read the settings for a command without a server; only what is wrong is logged, unless
    GLIMPSE_LOG_LEVEL asks for more."""
    settings = _settings_or_exit(model=model)
    is_asked = "log_level" in settings.model_fields_set
    configure_logging(settings.log_format, settings.log_level if is_asked else "error")
    return settings


def _settings_or_exit(**overrides: object) -> Settings:
    try:
        return load_settings(**overrides)
    except SettingsError as error:
        _refuse_to_start(error)


def _refuse_to_start(error: SettingsError) -> NoReturn:
    typer.echo(f"glimpse cannot start.\n{error}", err=True)
    raise typer.Exit(_CANNOT_START) from None
