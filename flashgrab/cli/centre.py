"""`flashgrab centre`: management alone, configured by the environment."""

import typer

from flashgrab.settings import CentreSettings, load

app = typer.Typer(rich_markup_mode=None)


@app.command(
    epilog="Example: FLASHGRAB_REDIS_URL=redis://127.0.0.1:6379 "
    "FLASHGRAB_POSTGRES_URL=postgresql://127.0.0.1/flashgrab FLASHGRAB_ADMIN_TOKEN=… "
    "flashgrab centre"
)
def centre() -> None:
    """Run the centre alone; its settings come from FLASHGRAB_* (docs/settings.md)."""
    from centre.serve import run

    raise typer.Exit(run(load(CentreSettings)))
