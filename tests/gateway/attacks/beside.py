"""How much slower good traffic is beside an attack: `python -m tests.gateway.attacks.beside`.

Turns of quiet and attack in one run, so that what else the machine does falls on both. The attack
comes from a process of its own: what it costs the attacker is nothing that a buyer should feel.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from itertools import cycle, islice

from gateway.serve import open_files
from tests.gateway.attacks.generator import Good, abort, begin, p99_ms, until_closed
from tests.gateway.attacks.shapes import SLOW
from tests.gateway.process import environment, publish, running, until
from tests.lua.server import valkey

SOCKETS = 2000
TURNS = 3
TURN_S = 5.0
BUYERS = 8


async def attack(port: int) -> None:
    """What the process beside does: says when it stands, and drips until all is closed."""
    made = await begin(port, list(islice(cycle(SLOW), SOCKETS)))
    print("stands", flush=True)
    await until_closed(made, 2 * TURN_S)
    abort(made)


async def attacker(port: int) -> Process:
    """That process, once its attack stands."""
    me = (sys.executable, "-m", "tests.gateway.attacks.beside", str(port))
    child = await asyncio.create_subprocess_exec(*me, stdout=PIPE)
    assert child.stdout is not None
    assert await child.stdout.readline() == b"stands\n"
    return child


async def turn(port: int, prefix: str, attacked: bool) -> list[float]:
    """Seconds of each good request, from when the attack stands."""
    child = await attacker(port) if attacked else None
    stop = asyncio.Event()
    buyers = [Good(port, "beside", f"{prefix}-{n}-", 0.005) for n in range(BUYERS)]
    tasks = [asyncio.create_task(buyer.run(stop)) for buyer in buyers]
    await asyncio.sleep(TURN_S)
    stop.set()
    await asyncio.gather(*tasks)
    if child is not None:
        await child.wait()
    assert {status for buyer in buyers for status in buyer.statuses} == {201}
    return [s for buyer in buyers for s in buyer.seconds]


def main() -> None:
    open_files()
    if sys.argv[1:]:
        asyncio.run(attack(int(sys.argv[1])))
        return
    with valkey(tcp=True) as server:
        publish(server, "beside", quota=1_000_000)
        with running(environment(server)) as gateway:
            until("it knows the campaign", lambda: gateway.knows("beside"))
            port = int(gateway.url.rpartition(":")[2])
            found: dict[bool, list[float]] = {False: [], True: []}
            for number in range(TURNS):
                for attacked in (False, True):
                    found[attacked] += asyncio.run(turn(port, f"{number}{attacked}", attacked))
    quiet, beside = (p99_ms(found[attacked]) for attacked in (False, True))
    counts = "and".join(f" {len(found[a])} " for a in (False, True))
    print(f"p99 quiet {quiet:.2f} ms, beside {beside:.2f} ms, ratio {beside / quiet:.2f};{counts}")


if __name__ == "__main__":
    main()
