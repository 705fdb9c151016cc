import click


@click.command
def run() -> None:
    """Not there yet."""
