"""The programs on /docs, filled with the address that was asked and a campaign.

They are files in snippets/; @BASE@, @CAMPAIGN@ and @LOGIN@ are all that is filled in. Tests take
them from the page and run them as they stand there, against a real stack.
"""

import re
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path

from flashgrab.docs.frame import Snippet, code, paragraph

FOLDER = Path(__file__).parent / "snippets"
BUYER = "A buyer: pass, grab, repeat, refusal"
BACKEND = "Your own backend: is this coupon theirs?"
MANAGE = "Management: create, publish, pause"
GATEWAY = (
    (BUYER, "curl", "buyer.sh"),
    (BUYER, "Python", "buyer.py.txt"),
    (BUYER, "JavaScript", "buyer.mjs"),
    ("A crowd", "Locust", "locustfile.py.txt"),
    (BACKEND, "curl", "backend.sh"),
    (BACKEND, "Python", "backend.py.txt"),
    (BACKEND, "JavaScript", "backend.mjs"),
)
CENTRE = ((MANAGE, "curl", "manage.sh"), (MANAGE, "Python", "manage.py.txt"))

LOGIN = {
    "curl": "TOKEN=${IDENTITY_TOKEN:?the token that your own login gave this user}",
    "Python": 'token = os.environ["IDENTITY_TOKEN"]  # what your own login gave this user',
    "JavaScript": (
        "const token = process.env.IDENTITY_TOKEN; // what your own login gave this user"
    ),
    "Locust": (
        "        # What your own login gave one user; passes for many: flashgrab pass mint\n"
        '        token = os.environ["IDENTITY_TOKEN"]'
    ),
}
DEMO = {
    "curl": (
        "# What your own login gave this user; here the demo's, which lets you be anyone.\n"
        'TOKEN=${IDENTITY_TOKEN:-$(curl -sS --fail-with-body "$BASE/demo/identity" \\\n'
        '  -d "{\\"user_id\\":\\"buyer-$(date +%s)-$$\\"}" | sed'
        ' \'s/.*"token":"\\([^"]*\\)".*/\\1/\')}'
    ),
    "Python": (
        "# What your own login gave this user; here the demo's, which lets you be anyone.\n"
        'token = os.environ.get("IDENTITY_TOKEN") or http.post(\n'
        '    "/demo/identity", json={"user_id": f"buyer-{uuid.uuid4()}"}\n'
        ').json()["token"]'
    ),
    "JavaScript": (
        "// What your own login gave this user; here the demo's, which lets you be anyone.\n"
        "const demo = await fetch(`${BASE}/demo/identity`, {\n"
        "  method: 'POST',\n"
        "  body: JSON.stringify({ user_id: `buyer-${crypto.randomUUID()}` }),\n"
        "});\n"
        "const { token } = await demo.json();"
    ),
    "Locust": (
        '        user = {"user_id": f"buyer-{os.urandom(8).hex()}"}  # the demo plays the login\n'
        '        token = self.client.post("/demo/identity", json=user).json()["token"]'
    ),
}
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")


def base_of(scheme: str, host: str, otherwise: str) -> str:
    """The address that was asked, where it is one; a Host header can say anything."""
    return f"{scheme}://{host}" if _HOST.fullmatch(host) else otherwise


def filled(
    which: Sequence[tuple[str, str, str]], base: str, campaign_id: str, *, demo: bool = False
) -> list[Snippet]:
    """The programs of a service."""
    login = DEMO if demo else LOGIN
    return [
        Snippet(title, language, _fill(_read(name), base, campaign_id, login.get(language, "")))
        for title, language, name in which
    ]


def integrate(
    snippets: Sequence[Snippet],
    base: str,
    words: Sequence[str],
    campaigns: Sequence[tuple[str, str]] = (),
    chosen: str = "",
) -> str:
    """The first part of /docs. `campaigns`: id and name of those to choose from."""
    return "".join(
        (
            f'<h2 id="integrate" data-origin="{escape(base)}">Integrate</h2>',
            *map(paragraph, words),
            _choice(campaigns, chosen) if campaigns else "",
            *(code(number, snippet) for number, snippet in enumerate(snippets, 1)),
        )
    )


def _choice(campaigns: Sequence[tuple[str, str]], chosen: str) -> str:
    options = "".join(
        f'<option value="{escape(id_)}"{" selected" if id_ == chosen else ""}>'
        f"{escape(name)} ({escape(id_)})</option>"
        for id_, name in campaigns
    )
    return (
        '<form method="get" action="/docs"><label>Campaign '
        f'<select name="campaign">{options}</select></label> <button>Show</button></form>'
    )


def _fill(text: str, base: str, campaign_id: str, login: str) -> str:
    found = {"@BASE@": base, "@CAMPAIGN@": campaign_id, "@LOGIN@": login}
    return re.sub("|".join(found), lambda match: found[match[0]], text)


@cache
def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
