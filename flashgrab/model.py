"""What a campaign is: its definition as written (file, API), and as fixed at publish.

Money is in cents, time in milliseconds since 1970 (UTC); text times live only in the definition.
"""

import re
import tomllib
from typing import Annotated, Any, Literal
from unicodedata import category

import msgspec
from msgspec import Meta

from flashgrab.challenge import BITS_MAX
from flashgrab.clock import from_rfc3339
from flashgrab.errors import DefinitionInvalid
from flashgrab.explain import explain
from flashgrab.ids import CAMPAIGN_ID, SEGMENT_NAME

Status = Literal["DRAFT", "PUBLISHED", "PAUSED", "OFFLINE"]
Durability = Literal["fsync", "replica"]
"""What a grant waits for before it is told: Redis' own disk, or besides it a replica."""

Audience = Literal["all", "segment", "links"]
"""Who may get a pass: everybody, the users of a list that is loaded, or who has a claim link."""

Cents = Annotated[int, Meta(ge=0, le=10**12)]

QUOTA_MAX = 10**8
Quota = Annotated[int, Meta(ge=1, le=QUOTA_MAX)]

ROUNDS_MAX = 400
DEFINITION_BYTES_MAX = 256 * 1024
TIME_MS_MAX = 4_102_444_800_000
"""The year 2100: past it a time is a slip of the pen, and text and numbers would part ways."""
AFTER_END_MS = 10 * 60 * 1000
"""How long after the last round a pass stays valid, so that winners can ask again."""


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields are a closed list; an unknown one is an error that names it."""


class Rule(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a coupon is worth and on what (cents). More kinds come with the coupon centre."""

    kind: Literal["amount_off"]
    amount: Annotated[int, Meta(ge=1, le=10**12)]
    threshold: Cents = 0


class RoundText(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A round as written: RFC 3339 with offset, `now` or `+10s`; closes_at also `+2h` after it."""

    opens_at: Annotated[str, Meta(max_length=40)]
    closes_at: Annotated[str, Meta(max_length=40)]
    quota: Quota


Rate = Annotated[
    str,
    Meta(
        pattern=r"^[1-9][0-9]{0,6}/[1-9][0-9]{0,4}[smh]\Z",
        description='a rate such as "5/10s" or "100/1m"',
    ),
]


SegmentName = Annotated[
    str,
    Meta(
        pattern=rf"^{SEGMENT_NAME}\Z",
        description="1 to 48 of a-z 0-9 _ - that begin with a letter or digit",
    ),
]


class Limits(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rates as `5/10s` of one user, device, address, of all, and of one user's pass requests
    (flashgrab/limits.py)."""

    user: Rate | None = None
    device: Rate | None = None
    address: Rate | None = None
    campaign: Rate | None = None
    passes: Rate | None = None


class Challenge(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked of a buyer before a pass, and when: where the risk rules say so, besides past
    `calm` requests for passes a second (of one gateway process), or always.

    `bits` is for flashgrab/challenge.py; each time that the demand is twice what is calm it takes
    one more, up to `bits_max`.
    """

    kind: Literal["work", "captcha"] = "work"
    ask: Literal["risk", "load", "always"] = "risk"
    bits: Annotated[int, Meta(ge=1, le=BITS_MAX)] = 14
    bits_max: Annotated[int, Meta(ge=1, le=BITS_MAX)] = 18
    calm: Annotated[int, Meta(ge=1, le=1_000_000)] = 200


class Definition(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A campaign as a merchandiser writes it (contract §3)."""

    id: Annotated[
        str,
        Meta(
            pattern=rf"^{CAMPAIGN_ID}\Z",
            description="1 to 48 of a-z 0-9 _ - that begin with a letter or digit",
        ),
    ]
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    rule: Rule
    rounds: Annotated[list[RoundText], Meta(min_length=1, max_length=ROUNDS_MAX)]
    per_user: Annotated[int, Meta(ge=1, le=100)] = 1
    per_device: Annotated[int, Meta(ge=0, le=10_000)] = 0
    durability: Durability = "fsync"
    limits: Limits | None = None
    challenge: Challenge | None = None
    audience: Audience = "all"
    segment: SegmentName | None = None


class Round(msgspec.Struct, frozen=True):
    """A round with its times fixed; `number` counts from 1."""

    number: int
    opens_at: int
    closes_at: int
    quota: int


_GIVEN = object()
LATER = {"durability": "fsync", "challenge": None, "audience": "all", "segment": None}
"""Fields that came later, and what they say where they say nothing new."""


def to_plain(definition: Definition) -> dict[str, Any]:
    """As plain data. What came later than the rest is left out where it asks for what there was
    before it: the release before reads such a definition too."""
    plain: dict[str, Any] = msgspec.to_builtins(definition)
    return {name: value for name, value in plain.items() if LATER.get(name, _GIVEN) != value}


def parse_toml(text: str, source: str) -> Definition:
    """A campaign file. Raises DefinitionInvalid naming the file, and the line or the field."""
    if len(text.encode()) > DEFINITION_BYTES_MAX:
        raise DefinitionInvalid(
            f"{source}: a campaign file has at most {DEFINITION_BYTES_MAX} bytes"
        )
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: TOMLDecodeError, huge numbers
        raise DefinitionInvalid(f"{source}: not TOML: {error}") from None
    return parse(raw, source)


def parse(raw: Any, source: str) -> Definition:
    """A definition from plain data, its times checked as far as they are absolute.

    Raises DefinitionInvalid naming the source and the field.
    """
    try:
        definition = msgspec.convert(raw, Definition)
    except msgspec.ValidationError as error:
        raise DefinitionInvalid(f"{source}: {explain(error, Definition)}") from None
    if not definition.name.strip() or any(category(c) in ("Cc", "Cs") for c in definition.name):
        raise DefinitionInvalid(f"{source}: name: expected text without control characters")
    if definition.challenge and definition.challenge.bits_max < definition.challenge.bits:
        raise DefinitionInvalid(f"{source}: challenge.bits_max: must not be below bits")
    if (definition.audience == "segment") != (definition.segment is not None):
        raise DefinitionInvalid(
            f'{source}: segment: expected a name where audience is "segment", and nowhere else'
        )
    fix_times(definition, 0, source)
    return definition


def fix_times(definition: Definition, now_ms: int, source: str) -> list[Round]:
    """The rounds with times in ms, relative ones counted from `now_ms`.

    Raises DefinitionInvalid where times run backwards or rounds overlap.
    """
    rounds: list[Round] = []
    for number, text in enumerate(definition.rounds, 1):
        field = f"rounds[{number - 1}]"
        opens_at = _time(text.opens_at, now_ms, f"{source}: {field}.opens_at")
        closes_at = _time(text.closes_at, opens_at, f"{source}: {field}.closes_at")
        if closes_at <= opens_at:
            raise DefinitionInvalid(f"{source}: {field}.closes_at: must come after opens_at")
        comparable = not rounds or _is_relative(text.opens_at) == _is_relative(
            definition.rounds[number - 2].opens_at
        )
        if rounds and (comparable or now_ms) and opens_at < rounds[-1].closes_at:
            raise DefinitionInvalid(
                f"{source}: {field}.opens_at: must not come before the end of the round before it"
            )
        rounds.append(Round(number, opens_at, closes_at, text.quota))
    return rounds


_RELATIVE = re.compile(r"\+([0-9]{1,6})(ms|s|m|h|d)", re.ASCII)
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def _is_relative(text: str) -> bool:
    return text == "now" or text.startswith("+")


def _time(text: str, base_ms: int, field: str) -> int:
    if text == "now":
        return base_ms
    if match := _RELATIVE.fullmatch(text):
        at_ms = base_ms + int(match[1]) * _UNIT_MS[match[2]]
    else:
        try:
            at_ms = from_rfc3339(text)
        except (ValueError, OverflowError):
            raise DefinitionInvalid(
                f"{field}: expected a time with its offset (2026-11-22T10:00:00+08:00),"
                f' "now" or "+10s", not {text!r}'
            ) from None
    if not 0 <= at_ms <= TIME_MS_MAX:
        raise DefinitionInvalid(f"{field}: expected a time between 1970 and 2100, not {text!r}")
    return at_ms
