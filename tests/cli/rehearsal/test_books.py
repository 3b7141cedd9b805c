"""The audit's verdict in lines."""

from flashgrab.cli.rehearsal.books import lines
from worker.audit import CampaignReport, Report
from worker.damage import Damage, Finding


def test_books_that_balance_are_one_line() -> None:
    """With the number of campaigns."""
    one = CampaignReport("c1")
    assert lines(Report([one], [])) == ["the books balance: I1 to I6 in 1 campaign"]
    assert lines(Report([one, one], [])) == ["the books balance: I1 to I6 in 2 campaigns"]


def test_books_that_do_not_name_campaign_invariant_and_an_example() -> None:
    """One line a kind of damage, the first subject, and how many more."""
    findings = [Finding.of(Damage.GAP, "seq 7"), Finding.of(Damage.GAP, "seq 8")]
    said = lines(Report([CampaignReport("c1", findings=findings)], []))
    assert said[0].startswith("c1: GAP (I4): ")
    assert said[0].endswith("seq 7 and 1 more")
    assert said[1] == "the books do NOT balance"
