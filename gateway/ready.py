"""Answers made beforehand, from those of the ordinary route, with gaps for what differs.

Each is made once a second at the most (the Date changes then) and filled in as often as it is
needed. Since the route's own answer is what a form is made of, the two can't part.
"""

from collections.abc import Sequence

from starlette.responses import Response

from flashgrab.outcomes import Outcome
from gateway.campaigns import Campaign
from gateway.decisions import Decision, Grant, Reply, new_grant
from gateway.redis_clock import RedisClock
from gateway.replies import grab_reply, grant_state, problem, to_bytes

READY_MAX = 4096
"""Answers and forms kept: by campaign, outcome, round and origin. Past it all are made anew."""
JITTERS = 64
"""Answers BUSY of one campaign and second that differ in when to come back."""
SAME = frozenset(
    (
        Outcome.PASS_INVALID,
        Outcome.PASS_OTHER_CAMPAIGN,
        Outcome.BLOCKED,
        Outcome.CAMPAIGN_NOT_FOUND,
        Outcome.ENDED,
        Outcome.OFFLINE,
        Outcome.DEVICE_LIMIT,
    )
)
"""Refusals without anything that changes from one to the next."""

_GAP = 777_000_777_000_777  # a serial that none can have (lua/grab.lua), looked for in the form
_MARK = b"\0"  # can't be in an answer
_Headers = Sequence[tuple[bytes, bytes]]
_Form = tuple[bytes, int]
"""Bytes with %d for the length and %b for each gap, and the length without what fills them."""


class Ready:
    """One a process. `headers` are uvicorn's own, a new list each second."""

    def __init__(self, clock: RedisClock) -> None:
        self._clock = clock
        self._headers: _Headers = ()
        # The one before, since the next is mostly the same: of one batch, of one millisecond.
        self._reply: Reply | None = None
        self._reply_more = self._grant = b""
        self._digits = 0
        self._decision: Decision | None = None
        self._campaign: Campaign | None = None
        self._decision_more = self._answer = b""
        self._granted: dict[tuple[bytes, int, bytes], _Form] = {}
        self._forms: dict[tuple[bytes, Outcome, int, str, bytes], _Form] = {}
        self._refusals: dict[tuple[bytes, Outcome, bytes], tuple[int, bytes]] = {}
        self._busies: dict[tuple[bytes, bytes], list[bytes]] = {}
        self._turned_away = 0

    def granted(
        self, campaign: Campaign, serial: int, reply: Reply, more: bytes, headers: _Headers
    ) -> bytes:
        """The 201 of a new grant; a reply is of one campaign."""
        digits = b"%d" % serial
        if (
            reply is not self._reply
            or more is not self._reply_more
            or headers is not self._headers
            or len(digits) != self._digits
        ):
            self._grant = self._grant_of(campaign, reply, more, headers, len(digits))
            self._reply, self._reply_more, self._digits = reply, more, len(digits)
        return self._grant % (digits, digits, digits)

    def _grant_of(
        self, campaign: Campaign, reply: Reply, more: bytes, headers: _Headers, digits: int
    ) -> bytes:
        """The form of a 201 for serials of so many digits."""
        if headers is not self._headers:
            self._turn(headers)
        key = (campaign.name, reply.round, more)
        form = self._granted.get(key)
        if form is None:
            self._make_room()
            response = grab_reply(campaign, new_grant(_GAP, reply), 0)
            form = self._granted[key] = self._form(response, more, b"%d" % _GAP)
        filled = form[0] % (_MARK, form[1] + 2 * digits, _MARK, _MARK)
        return filled.replace(b"%", b"%%").replace(_MARK, b"%b")

    def answer(
        self, campaign: Campaign | None, decision: Decision, more: bytes, headers: _Headers
    ) -> bytes:
        """The answer to any other decision."""
        if (
            decision is not self._decision
            or campaign is not self._campaign
            or more is not self._decision_more
            or headers is not self._headers
        ):
            self._answer = self._answer_of(campaign, decision, more, headers)
            # Not a replay: its decision is kept, and its state goes on to PERSISTED.
            # Not BUSY: those who are turned away together must not come back together.
            is_kept = not decision.grants and decision.outcome is not Outcome.BUSY
            self._decision = decision if is_kept else None
            self._campaign, self._decision_more = campaign, more
        return self._answer

    def _answer_of(
        self, campaign: Campaign | None, decision: Decision, more: bytes, headers: _Headers
    ) -> bytes:
        if headers is not self._headers:
            self._turn(headers)
        outcome, name = decision.outcome, b""
        if campaign is not None:
            if outcome is Outcome.REPLAYED:
                return self._replayed(campaign, decision.grants[0], more)
            if outcome is Outcome.USER_LIMIT:
                return self._limited(campaign, decision.grants, more)
            name = campaign.name
        if outcome is Outcome.BUSY:
            return self._busy(campaign, decision, name, more)
        ready = self._refusals.get((name, outcome, more))
        if ready is not None and ready[0] in (0, decision.at_ms):
            return ready[1]
        made = to_bytes(self._response(campaign, decision), headers, more=more)
        if outcome in SAME or _is_last(campaign, outcome):
            self._make_room()
            self._refusals[name, outcome, more] = (0, made)
        elif outcome is Outcome.NOT_STARTED and decision.at_ms:
            self._make_room()  # all that come in the same millisecond are told the same
            self._refusals[name, outcome, more] = (decision.at_ms, made)
        return made

    def _busy(
        self, campaign: Campaign | None, decision: Decision, name: bytes, more: bytes
    ) -> bytes:
        """One of JITTERS answers in turn, each with a time of its own to come back."""
        made = self._busies.get((name, more))
        if made is None:
            self._make_room()
            made = self._busies[name, more] = []
        self._turned_away = (self._turned_away + 1) % JITTERS
        if len(made) < JITTERS:
            made.append(to_bytes(self._response(campaign, decision), self._headers, more=more))
            return made[-1]
        return made[self._turned_away]

    def last(
        self, campaign: Campaign | None, decision: Decision, more: bytes, headers: _Headers
    ) -> bytes:
        """An answer after which the connection is closed."""
        return to_bytes(self._response(campaign, decision), headers, more=more, close=True)

    def _response(self, campaign: Campaign | None, decision: Decision) -> Response:
        if campaign is None:
            return problem(decision.outcome)
        return grab_reply(campaign, decision, self._clock.now_ms())

    def _replayed(self, campaign: Campaign, grant: Grant, more: bytes) -> bytes:
        state = grant_state(campaign, grant)
        key = (campaign.name, Outcome.REPLAYED, grant.round, state, more)
        form = self._forms.get(key)
        if form is None:
            self._make_room()
            decision = Decision(Outcome.REPLAYED, (grant._replace(serial=_GAP),))
            response = grab_reply(campaign, decision, 0)
            form = self._forms[key] = self._form(response, more, b"%d" % _GAP)
        digits = b"%d" % grant.serial
        return form[0] % (form[1] + 2 * len(digits), digits, digits)

    def _limited(self, campaign: Campaign, grants: Sequence[Grant], more: bytes) -> bytes:
        key = (campaign.name, Outcome.USER_LIMIT, 0, "", more)
        form = self._forms.get(key)
        if form is None:
            self._make_room()
            response = problem(Outcome.USER_LIMIT, grab_ids=[str(_GAP)])
            form = self._forms[key] = self._form(response, more, b'"%d"' % _GAP)
        ids = b",".join([b'"%b-%d"' % (campaign.name, g.serial) for g in grants if g.state == "g"])
        return form[0] % (form[1] + len(ids), ids)

    def _form(self, response: Response, more: bytes, gap: bytes) -> _Form:
        """An answer with gaps wherever `gap` stands in it."""
        body = bytes(response.body)
        whole = to_bytes(response, self._headers, more=more).replace(b"%", b"%%")
        whole = whole.replace(b"content-length: %d" % len(body), b"content-length: %d", 1)
        return whole.replace(gap, b"%b"), len(body) - body.count(gap) * len(gap)

    def _make_room(self) -> None:
        kept = len(self._granted) + len(self._forms) + len(self._refusals)
        if kept + JITTERS * len(self._busies) >= READY_MAX:
            self._turn(self._headers)

    def _turn(self, headers: _Headers) -> None:
        self._headers = headers
        self._granted.clear()
        self._forms.clear()
        self._refusals.clear()
        self._busies.clear()


def _is_last(campaign: Campaign | None, outcome: Outcome) -> bool:
    """Whether it is a SOLD_OUT after which no round can follow, so that it names none."""
    return (
        outcome is Outcome.SOLD_OUT
        and campaign is not None
        and campaign.state is not None
        and len(campaign.state.rounds) == 1
    )
