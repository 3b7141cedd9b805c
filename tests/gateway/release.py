"""`python -P -m tests.gateway.release changed|next`: a gateway of another release than this one.

`changed`: its grab.lua has another text, and so another hash, and does the same. `next`: it knows
one schema more.
"""

import sys

from flashgrab import scripts
from flashgrab.scripts import GRAB
from flashgrab.settings import GatewaySettings, load
from gateway import campaigns as knowing
from gateway.serve import serve

NEXT = "2"


def main(release: str) -> int:
    if release == "changed":
        GRAB.__dict__["text"] = GRAB.text + "\n-- of another release\n"
    else:
        for module in (scripts, knowing):
            vars(module)["READS"] = (scripts.SCHEMA, NEXT)
    return serve(load(GatewaySettings), 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
