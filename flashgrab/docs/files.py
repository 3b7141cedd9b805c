"""The files that the pages are made of: a closed list, name to place.

Swagger UI comes from its wheel, so that the pages need no other host and the repository no copy.
"""

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
EVENTS_PACKAGED = HERE / "events"
EVENTS_CHECKOUT = HERE.parent.parent / "docs" / "events"
OURS = ("docs.css", "docs.js")
SWAGGER_PACKAGE = "swagger_ui_bundle"
SWAGGER = ("swagger-ui.css", "swagger-ui-bundle.js")


@cache
def pages() -> Mapping[str, Path]:
    """Style sheets and scripts. Raises FileNotFoundError where the wheel lacks one."""
    swagger = _swagger()
    return {name: HERE / "static" / name for name in OURS} | {
        name: swagger / name for name in SWAGGER
    }


@cache
def events() -> Mapping[str, Path]:
    """The documents of docs/events: inside the wheel, else in the checkout."""
    folder = EVENTS_PACKAGED if EVENTS_PACKAGED.is_dir() else EVENTS_CHECKOUT
    return {path.name: path for path in folder.glob("*.json")}


def _swagger() -> Path:
    """Its newest folder: the wheel may hold several versions side by side."""
    spec = find_spec(SWAGGER_PACKAGE)
    if spec is not None and spec.origin is not None:
        found = sorted(Path(spec.origin).parent.rglob(SWAGGER[1]))
        if found:
            return found[-1].parent
    raise FileNotFoundError(f"no {SWAGGER[1]} in {SWAGGER_PACKAGE}")
