"""`flashgrab drill`: break one part of a stack made for it, and watch it heal."""

from typing import TYPE_CHECKING, Annotated

import typer

from flashgrab.cli.failure import fail

if TYPE_CHECKING:
    from flashgrab.cli.rehearsal.drill import Findings

app = typer.Typer(rich_markup_mode=None)


@app.command(epilog="Examples: flashgrab drill --list · flashgrab drill kill-worker")
def drill(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One of --list.", show_default=False)
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Say which drills there are.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON.")] = False,
) -> None:
    """Start a whole stack in a temporary folder, sell, break one part, and recount the books.

    It touches no stack that runs: everything is started for the drill, on free ports of this
    machine, and is gone after it. About 20 s; never more than four minutes.

    Exit 1 unless the part serves again, grabs and ledger go on, every buyer was answered right,
    and the books balance.
    """
    from flashgrab.cli.rehearsal import drill as drills

    if listed:
        if name is not None:
            fail("expected either --list or the NAME of a drill")
        _list(as_json)
        return
    if name is None or name not in drills.DRILLS:
        known = ", ".join(drills.DRILLS)
        fail(f"{'no NAME' if name is None else f'no drill {name!r}'}: known are {known}")

    import uvloop

    findings, verdict = uvloop.run(drills.run(name))
    if as_json:
        from flashgrab.cli.tables import print_json

        print_json(findings.as_json())
    else:
        _print(findings, verdict)
    raise typer.Exit(0 if findings.ok else 1)


def _list(as_json: bool) -> None:
    from flashgrab.cli.rehearsal.drill import DRILLS, sentence

    if as_json:
        from flashgrab.cli.tables import print_json

        print_json([{"name": name, "does": sentence(name)} for name in DRILLS])
        return
    for name in DRILLS:
        print(f"{name:<16} {sentence(name)}")


def _print(findings: "Findings", verdict: list[str]) -> None:
    from flashgrab.cli.rehearsal.drill import sentence
    from flashgrab.cli.rehearsal.report import align

    def time(ms: int) -> str:
        return f"{ms:,} ms" if ms >= 0 else "NOT"

    print(
        align(
            [
                ["done", sentence(findings.drill)],
                ["it serves again after", time(findings.serves_again_ms)],
                ["grabs are granted again after", time(findings.grants_again_ms)],
                ["the ledger goes on after", time(findings.ledger_again_ms)],
                ["buyers' requests", f"{findings.asked:,}"],
                ["repeated after no answer or 503", f"{findings.repeats:,}"],
                ["longest wait of a buyer", time(findings.longest_ms)],
                *([f"told {name}", f"{n:,}"] for name, n in sorted(findings.outcomes.items())),
            ]
        )
    )
    print()
    for line in findings.problems or ["every buyer holds one coupon, and was told so"]:
        print(line)
    for line in verdict:
        print(line)
    print("the drill went well" if findings.ok else "the drill went WRONG")
