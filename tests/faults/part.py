"""Parts of the product, stopped at a step or with a protection off, by their constructors.

`python -m tests.faults.part relay --die-at published`, `… gateway --without own-deadline`.
"""

import argparse
import os
import signal
import sys
from typing import get_args

from tests.faults import unprotected
from worker.persist import Persist
from worker.relay import Relay
from worker.steps import Hook, Step, go_on


def die_at(step: Step) -> Hook:
    """A hook that is a kill -9 at exactly this step."""

    async def hook(here: Step) -> None:
        if here == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


def stop_at(step: Step) -> Hook:
    """A hook that is a SIGSTOP the first time that this step is reached."""
    left = 1

    async def hook(here: Step) -> None:
        nonlocal left
        if here == step and left:
            left = 0
            os.kill(os.getpid(), signal.SIGSTOP)

    return hook


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["gateway", "relay", "worker"])
    parser.add_argument("--without", choices=sorted(unprotected.PARTS))
    parser.add_argument("--die-at", choices=get_args(Step))
    parser.add_argument("--stop-at", choices=get_args(Step))
    told = parser.parse_args()
    hook = die_at(told.die_at) if told.die_at else go_on
    if told.stop_at:
        hook = stop_at(told.stop_at)
    if told.without:
        return unprotected.PARTS[told.without](hook)
    if told.kind == "relay":
        return unprotected.relay(Relay)(hook)
    return unprotected.worker(Persist)(hook)


if __name__ == "__main__":
    sys.exit(main())
