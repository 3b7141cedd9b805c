"""As much of PromQL as it takes to see which metrics and labels an expression speaks of. Pure."""

import re
from collections.abc import Iterator
from typing import NamedTuple

FUNCTIONS = {
    "sum", "min", "max", "count", "rate", "increase", "deriv", "predict_linear", "clamp_min",
    "histogram_quantile", "changes", "absent", "min_over_time",
}  # fmt: skip
WORDS = {"by", "on", "and", "or", "unless", "offset", "without"}
_TOKEN = re.compile(
    r"""(?P<name>[a-zA-Z_]\w*)\s*(?P<labels>\{(?:"[^"]*"|[^}"])*\})?|"[^"]*"|\[[^\]]*\]|\d+(?:\.\d+)?|.""",
    re.DOTALL,
)
_GROUP = re.compile(r"\b(?:by|on|without)\s*\(([^)]*)\)")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")


class Selected(NamedTuple):
    """A metric and the labels that it is selected by."""

    name: str
    labels: frozenset[str]


def selected(expression: str) -> list[Selected]:
    """Every metric that an expression reads. Raises ValueError on a function that is not known."""
    found = []
    for match in _TOKEN.finditer(_GROUP.sub("by ()", expression)):
        name = match["name"]
        if name is None or name in WORDS:
            continue
        if name in FUNCTIONS:
            continue
        rest = expression_after(match)
        if rest.startswith("("):
            raise ValueError(f"{name} is no function that is known here")
        labels = _LABEL.findall(re.sub(r'"[^"]*"', '""', match["labels"] or ""))
        found.append(Selected(name, frozenset(labels)))
    return found


def expression_after(match: "re.Match[str]") -> str:
    """What follows a token."""
    return match.string[match.end() :].lstrip()


def grouped(expression: str) -> Iterator[str]:
    """The labels that it groups or matches by."""
    for labels in _GROUP.findall(expression):
        yield from (label.strip() for label in labels.split(",") if label.strip())
