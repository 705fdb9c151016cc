import click


@click.command
def simulate() -> None:
    """Not there yet."""
