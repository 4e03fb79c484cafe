"""The command `glimpse`: reads arguments, calls one function, prints. Knows no HTTP."""

import json
import logging
import os
from typing import Annotated, NoReturn

import typer

from app.core.errors import SettingsError
from app.core.logging import configure_logging
from app.core.settings import Settings, load_settings, settings_table, unknown_variables

__all__ = ["cli", "main"]

cli = typer.Typer(
    name="glimpse",
    help="Glimpse: a photo in, a sentence out, and where it looked.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_logger = logging.getLogger(__name__)
_CANNOT_START = 2


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
    configure_logging(settings.log_format, settings.log_level)
    for name, nearest in unknown_variables(os.environ).items():
        hint = f"; did you mean {nearest}?" if nearest else ""
        _logger.warning("%s is not a setting%s", name, hint)
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


def main() -> None:
    """Run the command line."""
    cli()


def _settings_or_exit(**overrides: object) -> Settings:
    try:
        return load_settings(**overrides)
    except SettingsError as error:
        _refuse_to_start(error)


def _refuse_to_start(error: SettingsError) -> NoReturn:
    typer.echo(f"glimpse cannot start.\n{error}", err=True)
    raise typer.Exit(_CANNOT_START) from None
