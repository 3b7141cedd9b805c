"""The proof of work: what answers it, what does not; the browser's script does the same."""

import json
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashgrab.challenge import PARTS, VALID_MS, Challenges, is_work, solve
from flashgrab.passes import PassKeys
from flashgrab.seal import Seal

NOW_MS = 1_800_000_000_000
KEYS = PassKeys.parse("k2:" + "b" * 40 + ",k1:" + "a" * 40)
OLD = PassKeys.parse("k1:" + "a" * 40)
WORKER = Path(__file__).parent.parent / "gateway" / "static" / "challenge-worker.js"
BITS = 3


def made(keys: PassKeys = KEYS, user: str = "anna@x") -> str:
    return Challenges(keys).make("spring", user, BITS, NOW_MS)


def answered(
    answer: str, campaign: str = "spring", user: str = "anna@x", after_ms: int = 0
) -> bool:
    return Challenges(KEYS).is_answered(answer, campaign, user, NOW_MS + after_ms)


def test_a_solution_counts_for_its_user_and_campaign_and_time() -> None:
    """Until it expires, for whom it was made; a key that no longer signs still verifies."""
    answer = solve(made(), BITS)
    assert answered(answer)
    assert answered(answer, after_ms=VALID_MS - 1)
    assert not answered(answer, after_ms=VALID_MS)
    assert not answered(answer, user="bert")
    assert not answered(answer, campaign="other")
    assert answered(solve(made(OLD), BITS))


def test_what_it_says_can_be_read() -> None:
    """Campaign, user, bits, expiry."""
    assert Challenges(KEYS).read(made()) == ("spring", "anna@x", BITS, NOW_MS + VALID_MS)


def test_work_that_was_not_done_does_not_count() -> None:
    """Every part counts; so do the challenge's signature, and its bits."""
    challenge = made()
    head, _, text = solve(challenge, BITS).rpartition(",")
    words = text.split(".")
    easier = challenge.replace(f"/{BITS}/", "/1/")
    assert easier != challenge
    assert not answered(solve(easier, 1))
    assert not answered(solve(challenge[:-1] + ("0" if challenge[-1] != "0" else "1"), BITS))
    assert not answered(f"{head},{'.'.join(words[1:])}")
    assert not answered(f"{head},{'.'.join([*words, words[0]])}")
    for part in range(PARTS):
        wrong = list(words)
        counter = int(words[part], 16)
        # The first counters were tried by solve(): all below the solution are wrong.
        wrong[part] = f"{counter - 1:x}" if counter else "fffffffff"
        assert not answered(f"{head},{'.'.join(wrong)}")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=700))
def test_junk_is_no_answer(text: str) -> None:
    """Whatever is sent: no, and no exception."""
    assert not answered(text)
    assert not answered(f"{made()},{text}")
    assert Challenges(KEYS).read(text) is None


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_changed_answer_is_none(data: st.DataObject) -> None:
    """One character of the signed part changed, left out or put in."""
    answer = SOLVED
    end = answer.index(",")
    at = data.draw(st.integers(0, end - 1))
    put = data.draw(st.text(max_size=2))
    changed = answer[:at] + put + answer[at + data.draw(st.integers(0, 1)) :]
    assert answered(changed) == (changed == answer)


SOLVED = solve(made(), BITS)


def test_a_seal_of_another_purpose_is_none() -> None:
    """Challenges, stamps of pages and passes are not taken for one another."""
    assert Seal(KEYS, b"page").open(made()) is None
    assert Challenges(KEYS).read(Seal(KEYS, b"page").sign("a", "b", "1", "2")) is None
    assert KEYS.check(made(), NOW_MS) is None


def test_a_key_that_is_gone_signs_nothing() -> None:
    """After the rotation is over, what it signed is no more."""
    assert Challenges(OLD).read(made()) is None


@pytest.mark.skipif(shutil.which("node") is None, reason="no node on this machine")
def test_the_browser_finds_the_same() -> None:
    """The worker's digests are SHA-256's for every length of padding, and its answers are ours."""
    texts = ["", "abc", *("x" * n for n in (54, 55, 56, 63, 64, 65, 119, 120, 200))]
    challenges = [made(user=f"u{n}") for n in range(3)]
    script = """
      const { sha256, solve } = require(process.argv[1]);
      const { texts, challenges, bits, parts } = JSON.parse(process.argv[2]);
      const word = (w) => (w >>> 0).toString(16).padStart(8, "0");
      const hex = (words) => Array.from(words, word).join("");
      console.log(JSON.stringify({
        digests: texts.map((t) => hex(sha256(t))),
        answers: challenges.map((c) => solve(c, bits, parts)),
      }));
    """
    asked = {"texts": texts, "challenges": challenges, "bits": 9, "parts": PARTS}
    command = ["node", "-e", script, str(WORKER), json.dumps(asked)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    found = json.loads(said)
    assert found["digests"] == [sha256(text.encode()).hexdigest() for text in texts]
    assert found["answers"] == [solve(challenge, 9) for challenge in challenges]
    work = tuple(int(word, 16) for word in found["answers"][0].rpartition(",")[2].split("."))
    assert is_work(challenges[0], 9, work)
