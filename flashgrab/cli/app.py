"""The `flashgrab` command. Each sub-command is a module that is imported only when it is called.

A module of `COMMANDS` has `app`, a `typer.Typer`. With one function and no callback it is a plain
command; with several functions, or with an empty `@app.callback()`, it is a group.
Exit statuses (contract §4): 0 done, 1 bad news, 2 wrong use or unreachable service.
"""

import gc
import importlib
import sys
from typing import Any

import typer
from typer._click import (
    Command,
    Context,
)  # typer carries its own click and has no public name for these
from typer._click.exceptions import ClickException, NoArgsIsHelpError
from typer.core import TyperCommand, TyperGroup

from flashgrab.cli.failure import Failure
from flashgrab.start import YOUNG_OBJECTS, lean

# name -> (module, one line for the list of commands)
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("flashgrab.cli.up", "Start everything on this machine, until Ctrl-C."),
    "gateway": ("flashgrab.cli.gateway", "Run the gateway alone."),
    "relay": ("flashgrab.cli.relay", "Run the relay alone: outbox to Kafka."),
    "worker": ("flashgrab.cli.worker", "Run the worker alone: Kafka to ledger, and the books."),
    "centre": ("flashgrab.cli.centre", "Run the centre alone: management."),
    "campaign": ("flashgrab.cli.campaign", "Create, show, publish and manage campaigns."),
    "segment": ("flashgrab.cli.segment", "Load the list of users that a campaign is for."),
    "block": ("flashgrab.cli.block", "Block users, devices and addresses."),
    "pass": ("flashgrab.cli.passes", "Mint passes for load tests."),
    "token": ("flashgrab.cli.token", "Let staff in and out; who did what."),
    "receipt": ("flashgrab.cli.receipt", "Check signed receipts offline; make their keys."),
    "audit": ("flashgrab.cli.audit", "Do the books balance? Recounts everything."),
    "backup": ("flashgrab.cli.backup", "Write definitions and ledger to a file."),
    "restore": ("flashgrab.cli.restore", "Make the ledger what a backup says, and rebuild."),
    "dead": ("flashgrab.cli.dead", "List and retry events that could not be stored."),
    "top": ("flashgrab.cli.top", "Watch the sale: a live screen, or one line a second."),
    "doctor": ("flashgrab.cli.doctor", "Look at settings, services and machine."),
    "config": ("flashgrab.cli.config", "Show every setting, and where it came from."),
    "rehearse": ("flashgrab.cli.rehearse", "Send a crowd of simulated buyers, then audit."),
    "drill": ("flashgrab.cli.drill", "Break one part of a stack made for it, and watch it heal."),
    "bench": ("flashgrab.cli.bench", "Run the benchmarks of a checkout, side by side."),
}
PARTS = ("gateway", "relay", "worker", "centre")
LEAN = (*PARTS, "audit", "backup", "restore", "dead")
"""Those that import structlog, and need nothing that it takes where it finds it."""


class LazyGroup(TyperGroup):
    """Lists all commands without importing them; imports the one that is called."""

    def list_commands(self, ctx: Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        if cmd_name not in COMMANDS:
            return None
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name][1], rich_markup_mode=None)

    def resolve_command(
        self, ctx: Context, args: list[str]
    ) -> tuple[str | None, Command | None, list[str]]:
        if args and args[0] in COMMANDS:
            return args[0], load(args[0]), args[1:]
        return super().resolve_command(ctx, args)


def load(name: str) -> Command:
    """The real command of a name of `COMMANDS`, imported now."""
    if name in LEAN:
        lean()
    module: Any = importlib.import_module(COMMANDS[name][0])
    module.app._add_completion = False  # noqa: SLF001 -- belongs to `flashgrab` alone
    command = typer.main.get_command(module.app)
    command.name = name
    return command


app = typer.Typer(
    cls=LazyGroup,
    name="flashgrab",
    help="Limited coupons for a crowd that arrives in the same second.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def root(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
) -> None:
    """Limited coupons for a crowd that arrives in the same second."""
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"flashgrab {version_of('flashgrab')}")
        raise typer.Exit


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit status; never a traceback for a wrong use."""
    if argv is None:  # a program: what is imported stays, and need not be walked again and again
        gc.set_threshold(YOUNG_OBJECTS)
    try:
        status = app(argv, prog_name="flashgrab", standalone_mode=False)
    except Failure as failure:
        return _refuse(str(failure))
    except NoArgsIsHelpError as wrong:
        print(wrong.format_message(), file=sys.stderr)
        return 2
    except ClickException as wrong:
        return _refuse(f"{wrong.format_message()} (flashgrab --help)")
    except (typer.Abort, KeyboardInterrupt):
        return _refuse("interrupted")
    return status if isinstance(status, int) else 0


def _refuse(message: str) -> int:
    line = " ".join(message.split())
    print(f"flashgrab: {line}", file=sys.stderr)
    return 2
