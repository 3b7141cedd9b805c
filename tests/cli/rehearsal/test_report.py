"""The table, the lines and the JSON of a rehearsal."""

from flashgrab.cli.rehearsal.report import align, as_json, problem_lines, reasons_of, span, table
from flashgrab.cli.rehearsal.sale import Sale
from flashgrab.cli.rehearsal.tally import Tally
from flashgrab.outcomes import Outcome


def tally(name: str, **fields: object) -> Tally:
    found = Tally(Sale(name, "N", ["a", "b"], 1, ("a", "a")))
    for field, value in fields.items():
        setattr(found, field, value)
    return found


SOLD = tally("c1", answered=4, granted=1, replayed=1, began_s=1.0, ended_s=3.0)
SOLD.refused[Outcome.SOLD_OUT] = 2
BUSY = tally("c2", answered=4, began_s=2.0, ended_s=6.0, problems=["x"], problems_more=1200)
BUSY.refused[Outcome.BUSY] = 4


def test_the_table_has_a_column_for_each_reason_that_occurred() -> None:
    """In the order of precedence, with a last line for all."""
    lines = [" ".join(line.split()) for line in table([SOLD, BUSY]).splitlines()]
    assert lines == [
        (
            "campaign buyers quota asked granted replayed BUSY SOLD_OUT"
            " unanswered repeats seconds grabs/s"
        ),
        "c1 2 1 4 1 1 0 2 0 0 2.00 2",
        "c2 2 1 4 0 0 4 0 0 0 4.00 1",
        "all 4 2 8 1 1 4 2 0 0 5.00 2",
    ]
    assert reasons_of([SOLD, BUSY]) == [Outcome.BUSY, Outcome.SOLD_OUT]


def test_one_campaign_needs_no_sum() -> None:
    """A table of one line has no line for all."""
    assert len(table([SOLD]).splitlines()) == 2


def test_problems_name_their_campaign() -> None:
    """And say how many more there are."""
    assert problem_lines([SOLD, BUSY]) == ["c2: x", "c2: and 1,200 more"]


def test_the_json_is_whole() -> None:
    """Every number of the table, and the problems."""
    assert as_json(SOLD) == {
        "campaign_id": "c1",
        "name": "N",
        "buyers": 2,
        "quota": 1,
        "expected": 1,
        "asked": 4,
        "granted": 1,
        "others": 0,
        "replayed": 1,
        "refused": {"SOLD_OUT": 2},
        "unanswered": 0,
        "repeats": 0,
        "seconds": 2.0,
        "grabs_per_second": 2.0,
        "p99_ms": None,
        "sold_out_ms": 0,
        "problems": [],
        "problems_more": 0,
    }


def test_the_span_is_from_the_first_request_to_the_last_answer() -> None:
    """Over all campaigns; nothing without an answer."""
    assert (span([SOLD, BUSY]), span([tally("c3")]), span([])) == (5.0, 0.0, 0.0)


def test_columns_are_aligned() -> None:
    """The first to the left, the others to the right."""
    assert align([["a", "bb"], ["ccc", "d"]]) == "a    bb\nccc   d"
