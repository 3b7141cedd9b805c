"""What makes the start of a part shorter. A start is imports, and a part that died is away for as
long as they take (docs/faults.md has the figures).
"""

import gc
import sys

YOUNG_OBJECTS = 50_000
"""New containers between two collections. With Python's own 700 a sixth of the CPU of a start goes
into walking modules that stay for ever. A part that wants other thresholds sets them later."""


def lean() -> None:
    """Call it before a part imports anything large."""
    gc.set_threshold(YOUNG_OBJECTS)
    if "structlog" in sys.modules:
        return
    # structlog takes rich where it finds it, for tracebacks that show the locals of every frame,
    # which we never print (flashgrab/telemetry.py); importing rich is a tenth of a start.
    known = sys.modules.get("rich")
    sys.modules["rich"] = None  # type: ignore[assignment] # what makes an import fail
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]
        if known is not None:
            sys.modules["rich"] = known
