"""What stands between a buyer and his pass besides his identity: risk, challenge, captcha.

All of it is off by default, and none of it is on the way of a grab.
"""

from base64 import urlsafe_b64decode
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response

from flashgrab.challenge import PARTS, VALID_MS, Challenges
from flashgrab.clock import to_rfc3339
from flashgrab.model import Challenge
from flashgrab.outcomes import Outcome
from flashgrab.passes import PassKeys
from flashgrab.seal import Seal
from flashgrab.telemetry import Metrics
from gateway.address import host_of
from gateway.campaigns import Campaign
from gateway.captcha import Captcha, CaptchaUnavailable
from gateway.replies import problem
from gateway.risk.score import Action, Judged, Risk
from gateway.risk.signals import Asked, block_of

ANSWER_HEADER = "x-challenge-answer"
STAMP_HEADER = "x-page-stamp"
LOGGED_A_SECOND = 10
"""Decisions; how many more there were stands in the next line."""
NO_CAPTCHA = "This campaign asks for a captcha, and none is configured here."

log = structlog.get_logger()


class Guard:
    """One a process. `risk` and `captcha` are None where they are not configured."""

    def __init__(
        self,
        keys: PassKeys,
        metrics: Metrics,
        risk: Risk | None = None,
        captcha: Captcha | None = None,
        site_key: str = "",
    ) -> None:
        self._metrics = metrics
        self._risk = risk
        self._captcha = captcha
        self._site_key = site_key
        self._challenges = Challenges(keys)
        self._pages = Seal(keys, b"page")
        self._demands: WeakKeyDictionary[Campaign, Demand] = WeakKeyDictionary()
        self._lines = Lines()

    # -- the page ----------------------------------------------------------------------------------

    def stamp(self, campaign_id: str, now_ms: int) -> str | None:
        """When a campaign was looked at, to be sent along with the request for a pass; None where
        nobody will ask for it."""
        return self._pages.sign(campaign_id, str(now_ms)) if self._risk else None

    def _page_ms(self, stamp: str, campaign_id: str) -> int | None:
        fields = self._pages.open(stamp)
        return int(fields[1]) if fields and fields[0] == campaign_id else None

    # -- the pass ----------------------------------------------------------------------------------

    async def refusal(
        self, request: Request[Any], campaign: Campaign, user_id: str, token: str, now_ms: int
    ) -> Response | None:
        """Why this user gets no pass now; None: nothing is in the way. `token` is his identity
        token, which was checked."""
        asked_for = _challenge_of(campaign)
        if asked_for is None and self._risk is None:
            return None
        wanted = asked_for or Challenge()
        asks_a_second = self._demand(campaign).count(now_ms)
        challenged = wanted.ask == "always"
        challenged |= wanted.ask == "load" and asks_a_second > wanted.calm
        if self._risk is not None:
            action = self._judge(self._risk, request, campaign, user_id, token, now_ms)
            if action is Action.REFUSE:
                return problem(Outcome.BLOCKED)
            challenged |= action is Action.CHALLENGE
        if not challenged:
            return None
        answer = request.headers.get(ANSWER_HEADER, "")
        if wanted.kind == "captcha":
            return await self._by_captcha(answer)
        name = campaign.campaign_id
        if answer and self._challenges.is_answered(answer, name, user_id, now_ms):
            self._metrics.add("flashgrab_challenges", ("solved",))
            return None
        self._count_asked(answer)
        bits = bits_of(wanted, asks_a_second)
        return problem(
            Outcome.CHALLENGE_REQUIRED,
            challenge={
                "kind": "work",
                "token": self._challenges.make(name, user_id, bits, now_ms),
                "bits": bits,
                "parts": PARTS,
                "expires_at": to_rfc3339(now_ms + VALID_MS),
            },
        )

    async def _by_captcha(self, answer: str) -> Response | None:
        if self._captcha is None:
            return problem(Outcome.BACKEND_UNAVAILABLE, detail=NO_CAPTCHA)
        if answer:
            try:
                passed = await self._captcha.is_passed(answer)
            except CaptchaUnavailable:
                self._metrics.add("flashgrab_challenges", ("unavailable",))
                return problem(Outcome.BACKEND_UNAVAILABLE)
            if passed:
                self._metrics.add("flashgrab_challenges", ("solved",))
                return None
        self._count_asked(answer)
        shown = {"kind": "captcha", "site_key": self._site_key}
        return problem(Outcome.CHALLENGE_REQUIRED, challenge=shown)

    def _count_asked(self, answer: str) -> None:
        self._metrics.add("flashgrab_challenges", ("wrong" if answer else "asked",))

    def _demand(self, campaign: Campaign) -> "Demand":
        found = self._demands.get(campaign)
        if found is None:
            found = self._demands[campaign] = Demand()
        return found

    def _judge(
        self,
        risk: Risk,
        request: Request[Any],
        campaign: Campaign,
        user_id: str,
        token: str,
        now_ms: int,
    ) -> Action:
        address = host_of(request.client)
        stamp = request.headers.get(STAMP_HEADER, "")
        created_s = claim(token, risk.rules.age_claim) if risk.rules.age_claim else None
        judged = risk.judge(
            Asked(
                user_id=user_id,
                device_id=request.headers.get("x-device-id", ""),
                address=address,
                head=[name.decode("latin-1") for name, _ in request.scope["headers"]],
                created_ms=None if created_s is None else created_s * 1000,
                page_ms=self._page_ms(stamp, campaign.campaign_id) if stamp else None,
                now_ms=now_ms,
            )
        )
        self._metrics.add("flashgrab_risk_decisions", (risk.rules.mode, judged.would.value))
        if judged.would is not Action.PASS:
            told = (risk.rules.mode, campaign.campaign_id, user_id, address)
            self._lines.say(judged, *told, now_ms)
        return judged.action

    async def close(self) -> None:
        if self._captcha is not None:
            await self._captcha.close()


class Demand:
    """Requests for passes of one campaign in the last second, as this process sees them."""

    def __init__(self) -> None:
        self._second, self._count, self._before = 0, 0, 0

    def count(self, now_ms: int) -> int:
        second = now_ms // 1000
        if second != self._second:
            self._before = self._count if second == self._second + 1 else 0
            self._second, self._count = second, 0
        self._count += 1
        return self._count + self._before * (1000 - now_ms % 1000) // 1000


class Lines:
    """Log lines of decisions, so many a second and no more."""

    def __init__(self) -> None:
        self._second, self._said, self._left_out = 0, 0, 0

    def say(
        self, judged: Judged, mode: str, campaign: str, user: str, address: str, now_ms: int
    ) -> None:
        second = now_ms // 1000
        if second != self._second:
            self._second, self._said = second, 0
        if self._said >= LOGGED_A_SECOND:
            self._left_out += 1
            return
        self._said += 1
        log.info(
            "risk",
            decision=judged.would.value,
            mode=mode,
            points=judged.points,
            reasons=list(judged.reasons),
            campaign=campaign,
            user=user,
            block=block_of(address),
            left_out=self._left_out,
        )
        self._left_out = 0


def bits_of(wanted: Challenge, asks_a_second: int) -> int:
    """One bit more, so twice the work, each time that the demand is twice what is calm."""
    more = (asks_a_second // wanted.calm).bit_length() - 1
    return min(wanted.bits_max, wanted.bits + max(0, more))


def _challenge_of(campaign: Campaign) -> Challenge | None:
    """What the campaign asks for. In a form that this release does not know: always, as ours."""
    said = campaign.state.definition.get("challenge") if campaign.state else None
    if said is None:
        return None
    try:
        return msgspec.convert(said, Challenge)
    except msgspec.ValidationError:
        return Challenge(ask="always")


def claim(token: str, name: str) -> int | None:
    """A whole number out of a JWT that was checked already."""
    try:
        payload = token.split(".")[1]
        claims = orjson.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        value = claims.get(name)
    except (ValueError, IndexError, AttributeError):
        return None
    return int(value) if isinstance(value, int | float) and 0 <= value < 1 << 40 else None
