"""`flashgrab gateway`: the grab path alone, configured by the environment."""

import typer

from flashgrab.settings import GatewaySettings, load

app = typer.Typer(rich_markup_mode=None)


@app.command(
    epilog="Example: FLASHGRAB_REDIS_URL=redis://127.0.0.1:6379 FLASHGRAB_PASS_KEYS=k1:… "
    "flashgrab gateway --processes 2"
)
def gateway(
    processes: int = typer.Option(1, min=1, max=64, help="Processes that share the port."),
) -> None:
    """Run the gateway alone; its settings come from FLASHGRAB_* (docs/settings.md)."""
    from gateway.serve import serve

    raise typer.Exit(serve(load(GatewaySettings), processes))
