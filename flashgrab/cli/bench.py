"""`flashgrab bench`: the benchmarks of a checkout's bench/, side by side in one run."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from flashgrab.cli.failure import fail

CHECKOUT = Path(__file__).resolve().parents[2]

app = typer.Typer(rich_markup_mode=None)


@app.command(epilog="Example: flashgrab bench --quick")
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="A first look, under a minute.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Result file without its ending; default bench/results/.")
    ] = None,
) -> None:
    """Compare our grab with other designs, on this machine (bench/README.md has the method).

    In a checkout, more of them: python -m bench.curve (load), bench.drain (outbox to ledger),
    bench.memory (holders, open connections).
    """
    raise typer.Exit(run(CHECKOUT, quick=quick, out=out))


def run(checkout: Path, *, quick: bool, out: Path | None) -> int:
    """The benchmark's own exit status; exit 2 where there is no bench/."""
    if not (checkout / "bench" / "grabs.py").is_file():
        fail("the benchmarks are part of a checkout, not of the wheel: clone it, then `make bench`")
    flags = [*(["--quick"] if quick else []), *(["--out", str(out.resolve())] if out else [])]
    return subprocess.run(
        [sys.executable, "-m", "bench.grabs", *flags], cwd=checkout, check=False
    ).returncode
