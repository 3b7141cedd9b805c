"""How far the relay is in each outbox."""

from flashgrab.events import Entry, OutboxEntry, TornEntry
from flashgrab.state import OutboxStanding
from worker.cursors import FIRST, Cursors, move


def standing(epoch: int = 1, seq: int = 100) -> OutboxStanding:
    return OutboxStanding(epoch, "run", 1, seq, 0, "", 1)


def entry(last_seq: int) -> Entry:
    return OutboxEntry(last_seq, last_seq, 1, 0, "")


def read(cursors: Cursors, *last_seqs: int) -> None:
    """Read these entries of c1 and have them acknowledged."""
    _, marks = cursors.take(cursors.reading(), {"c1": [entry(s) for s in last_seqs]})
    move(marks)


def test_a_new_campaign_starts_at_the_first_entry() -> None:
    """A restart of the relay sends everything above the watermark again."""
    cursors = Cursors()
    cursors.learn({"c1": standing()}, {})
    assert cursors.reading() == {"c1": FIRST}


def test_the_cursor_moves_with_the_ack_and_goes_back_without() -> None:
    """What was read and not acknowledged is read again."""
    cursors = Cursors()
    cursors.learn({"c1": standing()}, {})
    read(cursors, 5, 9)
    cursors.take(cursors.reading(), {"c1": [entry(12)]})
    assert cursors.reading() == {"c1": "12-0"}
    assert cursors.acked_seq("c1") == 9
    cursors.back()
    assert cursors.reading() == {"c1": "9-0"}


def test_another_epoch_starts_again() -> None:
    """A rebuilt campaign has another outbox."""
    cursors = Cursors()
    cursors.learn({"c1": standing()}, {})
    read(cursors, 9)
    cursors.learn({"c1": standing(epoch=2)}, cursors.reading())
    assert cursors.reading() == {"c1": FIRST}


def test_a_seq_below_what_was_read_starts_again() -> None:
    """Another server with older data has another history."""
    cursors = Cursors()
    cursors.learn({"c1": standing()}, {})
    read(cursors, 90)
    cursors.learn({"c1": standing(seq=89)}, cursors.reading())
    assert cursors.reading() == {"c1": FIRST}


def test_a_seq_below_what_was_read_meanwhile_does_not() -> None:
    """An answer that is older than the last reading says nothing."""
    cursors = Cursors()
    cursors.learn({"c1": standing(seq=5)}, {})
    asked_at = cursors.reading()
    read(cursors, 5, 9)
    cursors.learn({"c1": standing(seq=5)}, asked_at)
    assert cursors.reading() == {"c1": "9-0"}


def test_a_late_ack_does_not_move_a_cursor_that_started_again() -> None:
    """An acknowledgement by a broker that lost its log counts for nothing."""
    cursors = Cursors()
    cursors.learn({"c1": standing()}, {})
    _, marks = cursors.take(cursors.reading(), {"c1": [entry(9)]})
    cursors.start_again()
    move(marks)
    assert cursors.acked_seq("c1") == 0
    assert cursors.reading() == {"c1": FIRST}


def test_entries_read_before_a_restart_are_not_taken() -> None:
    """Else the cursor would jump over what it is to read again."""
    cursors = Cursors()
    cursors.learn({"c1": standing()}, {})
    read(cursors, 9)
    reading = cursors.reading()
    cursors.start_again()
    taken, marks = cursors.take(reading, {"c1": [entry(12)]})
    assert (taken, marks) == ({}, [])


def test_a_gone_campaign_is_forgotten() -> None:
    """A campaign whose key is missing is no longer read."""
    cursors = Cursors()
    cursors.learn({"c1": standing(), "c2": standing()}, {})
    cursors.learn({"c2": standing()}, cursors.reading())
    assert cursors.reading() == {"c2": FIRST}


def test_a_torn_entry_is_passed_by_its_own_id() -> None:
    """An id that is not <last seq>-0 must not be read for ever."""
    cursors = Cursors()
    cursors.learn({"c1": standing()}, {})
    cursors.take(cursors.reading(), {"c1": [TornEntry("7-3", 7, "why")]})
    assert cursors.reading() == {"c1": "7-3"}
