"""msgspec's errors in plain words, for any type."""

from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from flashgrab.explain import MESSAGE_MAX, explain


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    """A table in a list."""

    colour: Literal["red", "blue"] = "red"
    code: Annotated[str, Meta(pattern="^x", description="something with x")] | None = None
    plain: Annotated[str, Meta(pattern="^x")] = "x"


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    """The whole."""

    inner: list[Inner]
    maybe: Inner | None = None
    number: int | None = None


@pytest.mark.parametrize(
    "value, message",
    [
        ({}, "inner: missing"),
        ([], "the whole: expected a table, not a list"),
        ({"inner": [], "x": 1}, "x: unknown field, expected one of: inner, maybe, number"),
        ({"inner": [{"x": 1}]}, "inner[0].x: unknown field, expected one of: colour, code, plain"),
        (
            {"inner": [], "maybe": {"x": 1}},
            "maybe.x: unknown field, expected one of: colour, code, plain",
        ),
        ({"inner": [{"colour": "x"}]}, 'inner[0].colour: expected "blue" or "red", not \'x\''),
        ({"inner": [{"code": "y"}]}, "inner[0].code: expected something with x"),
        ({"inner": [{"plain": "y"}]}, "inner[0].plain: expected another form"),
        (
            {"inner": [], "number": "x"},
            "number: expected a whole number or nothing, not text in quotes",
        ),
        (
            {"inner": [{"colour": "` - at `$.y"}]},
            'inner[0].colour: expected "blue" or "red", not \'` - at `$.y\'',
        ),
        (
            {"inner": [{"a\x1b[31m": 1}]},
            "inner[0].a?[31m: unknown field, expected one of: colour, code, plain",
        ),
    ],
)
def test_the_field_comes_first_then_what_was_expected(value: Any, message: str) -> None:
    """One row a form of msgspec's errors, hostile ones among them."""
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(value, Outer)
    assert explain(caught.value, Outer) == message


def test_a_message_has_a_bound() -> None:
    """However long the value is, the message is not."""
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert({"inner": [{"colour": "x" * 10_000}]}, Outer)
    assert len(explain(caught.value, Outer)) == MESSAGE_MAX
