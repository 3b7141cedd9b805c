"""What a seed draws, and how a trace of a file is read."""

from tests.faults.power import Flushed, read_trace
from tests.faults.schedule import FAULTS_MAX, LENGTH_MS, draw

SPAN_MS = 6000
KNOWN = dict.fromkeys(("kill relay", "freeze relay", "EIO valkey", "power cut", "x a>b"))


def test_a_seed_draws_the_same_again() -> None:
    """The same schedule for the same seed, others for others."""
    drawn = [draw(seed, SPAN_MS, KNOWN) for seed in range(100)]
    assert drawn == [draw(seed, SPAN_MS, KNOWN) for seed in range(100)]
    assert len({tuple(events) for events in drawn}) == 100


def test_what_is_drawn_fits_and_hits_nothing_twice() -> None:
    """One to three faults inside the span, and no two of one part."""
    for seed in range(200):
        events = draw(seed, SPAN_MS, KNOWN)
        names = {event.fault for event in events}
        assert 1 <= len(events) <= FAULTS_MAX
        assert not names >= {"kill relay", "freeze relay"}
        assert not names >= {"EIO valkey", "power cut"}
        for event in events:
            assert LENGTH_MS[0] <= event.for_ms <= LENGTH_MS[1]
            assert event.at_ms + event.for_ms <= SPAN_MS


def test_a_trace_tells_what_was_flushed() -> None:
    """What was written before a completed flush began; no other files, no failed calls."""
    text = """
10 write(9</d/log>, ""..., 100) = 100
10 write(5<socket:[1]>, ""..., 999) = 999
10 fdatasync(9</d/log>) = 0
10 write(9</d/log>, ""..., 30) = 30
11 fdatasync(9</d/log> <unfinished ...>
10 write(9</d/log>, ""..., 7 <unfinished ...>
10 <... write resumed>) = 7
11 <... fdatasync resumed>) = 0
10 write(9</d/log>, ""..., 4) = 2
10 fdatasync(9</d/log>) = -1 EIO (Input/output error) (INJECTED)
10 fdatasync(9</d/log> <unfinished ...>
10 +++ killed by SIGKILL +++
"""
    assert read_trace(text, "/d/log") == Flushed(written=139, flushed=130, flushes=2)
