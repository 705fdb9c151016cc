"""`headcount serve`."""

import click

from headcount.commands.serving import run_server
from headcount.logs import configure_logs
from headcount.settings import Settings, SettingsRefused


@click.command
def serve() -> None:
    """Run the service.

    Listens on HEADCOUNT_HOST (127.0.0.1) and HEADCOUNT_PORT (8000) until SIGTERM or Ctrl-C. Refuses to start on a
    schema it cannot speak to; `headcount migrate` brings the database to the right one. Where the database cannot be
    reached it starts all the same, answers 503, and goes on by itself once it can. Every request needs a token
    (`headcount token create`), unless HEADCOUNT_AUTH=off, which is accepted on a loopback address only.
    """
    configure_logs()
    try:
        settings = Settings.from_environment()
    except SettingsRefused as refused:
        raise click.ClickException(str(refused)) from None
    run_server(settings, lambda: click.echo(f"Serving on {address(settings)}"))


def address(settings: Settings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"
