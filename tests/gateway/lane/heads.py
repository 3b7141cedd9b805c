"""Cases: how a head may be written. Order, case, spacing, repeats, folding, first lines."""

from tests.gateway.lane.case import Case, Make, always, sent, to, with_headers
from tests.gateway.lane.plain import BROWSER, HOST, changed, of_a_grab, raw, without
from tests.gateway.lane.world import LONG_ID, token

LINE = "POST /v1/campaigns/open/grabs HTTP/1.1\r\n"
END = "\r\n{grab}\r\n\r\n"


def _ordered(step: int) -> Make:
    """The headers, turned round by some places."""

    def make(user: str) -> bytes:
        headers = [*BROWSER, *of_a_grab(user)]
        return raw(headers=headers[step:] + headers[:step])

    return make


def _spelt(change: str) -> Make:
    return lambda user: raw(
        headers=[(getattr(n, change)(), v) for n, v in [*BROWSER, *of_a_grab(user)]]
    )


def _authorized(form: str) -> Make:
    """The Authorization header in another form; `{}` is the pass."""
    return lambda user: changed(user, "Authorization", form.format(token("open", user)))


def _spaced(name: str, before: str, after: str) -> Make:
    """White space around the value of one header."""

    def make(user: str) -> bytes:
        headers = [*BROWSER, *of_a_grab(user)]
        return raw(headers=[(n, f"{before}{v}{after}" if n == name else v) for n, v in headers])

    return make


ORDER = [Case(f"order {n}", _ordered(n), (201,)) for n in range(1, 14)]
ORDER.append(Case("backwards", lambda u: raw(headers=[*BROWSER, *of_a_grab(u)][::-1]), (201,)))
SPELLING = [Case(f"names in {c}", _spelt(c), (201,)) for c in ("lower", "upper", "swapcase")]
FEWER = [
    Case("only host and its own", lambda u: raw(headers=[*HOST, *of_a_grab(u)]), (201,)),
    *(
        Case(f"without {n}", lambda u, n=n: raw(headers=[*without(n), *of_a_grab(u)]), (201,))  # type: ignore[misc]
        for n in ("Connection", "Content-Length", "User-Agent", "Accept")
    ),
    Case("no host", lambda u: raw(headers=[*without("Host"), *of_a_grab(u)]), (400,)),
    Case("no pass", always(raw(headers=BROWSER)), (401,)),
    Case("no headers at all", always(raw(headers=())), (400,)),
]
SPACING = [
    *(
        Case(f"{name} spaced {before!r} {after!r}", _spaced(name, before, after), (201,))
        for name in ("Authorization", "Idempotency-Key", "Host", "Content-Length", "Connection")
        for before, after in ((" ", ""), ("\t", ""), ("", " "), ("", "\t"), (" \t ", " \t "))
        if name != "Authorization" or not after  # what trails a pass: below
    ),
    *(
        Case(f"authorization trailing {after!r}", _spaced("Authorization", "", after))
        for after in (" ", "\t", "  ", " \t")
    ),
    *(
        Case(f"no blank after the colon of {name}", sent(f"{LINE}Host: a\r\n{line}\r\n\r\n"))
        for name, line in (
            ("authorization", "Authorization:Bearer {pass}"),
            ("content-length", "Content-Length:0\r\n{grab}"),
            ("host", "X:y\r\n{grab}"),
        )
    ),
    Case("blank before a colon", sent(LINE + "Host : a" + END)),
    Case("tab before a colon", sent(LINE + "Host: a\r\nContent-Length\t: 0" + END)),
    Case("blank before a name", sent(LINE + " Host: a" + END)),
    Case("an empty name", sent(LINE + "Host: a\r\n: b" + END)),
    Case("an empty value", with_headers(("X-Empty", "")), (201,)),
    Case("a line without a colon", sent(LINE + "Host: a\r\nnothing" + END)),
]
SCHEME = [
    Case("scheme in lower case", _authorized("bearer {}"), (201,)),
    Case("scheme in upper case", _authorized("BEARER {}"), (201,)),
    Case("two blanks after the scheme", _authorized("Bearer  {}"), (201,)),
    Case("a tab after the scheme", _authorized("Bearer\t{}"), (401,)),
    Case("a tab and a blank after the scheme", _authorized("Bearer \t{}"), (401,)),
    Case("another scheme", _authorized("Basic {}"), (401,)),
    Case("no scheme", _authorized("{}"), (401,)),
    Case("scheme alone", _authorized("Bearer"), (401,)),
    Case("scheme and a blank", _authorized("Bearer "), (401,)),
    Case("two passes in one header", _authorized("Bearer {0}, Bearer {0}"), (401,)),
    Case("a quoted pass", _authorized('Bearer "{}"'), (401,)),
]


def _twice(name: str, first: str, second: str) -> Make:
    """One header two times; `{}` is the user's pass."""

    def make(user: str) -> bytes:
        mine = token("open", user)
        pair = [(name, value.replace("{}", mine)) for value in (first, second)]
        rest = without(name, [*BROWSER, *of_a_grab(user)])
        return raw(headers=[*rest, *pair])

    return make


REPEATS = [
    Case("authorization twice, the same", _twice("Authorization", "Bearer {}", "Bearer {}")),
    Case("authorization twice, bad first", _twice("Authorization", "Bearer x", "Bearer {}")),
    Case("authorization twice, bad last", _twice("Authorization", "Bearer {}", "Bearer x")),
    Case("key twice, the same", _twice("Idempotency-Key", "a", "a"), (400,)),
    Case("key twice", _twice("Idempotency-Key", "a", "b"), (400,)),
    Case("key twice, one empty", _twice("Idempotency-Key", "", "b"), (400,)),
    Case("length twice, the same", _twice("Content-Length", "0", "0")),
    Case("length twice, not the same", _twice("Content-Length", "0", "5")),
    Case("length as a list", _twice("Content-Length", "0, 0", "0")),
    Case("host twice, the same", _twice("Host", "shop.example", "shop.example"), (400,)),
    Case("host twice", _twice("Host", "a", "b"), (400,)),
    Case("connection twice, keep", _twice("Connection", "keep-alive", "keep-alive"), (201,)),
    Case("connection twice, close last", _twice("Connection", "keep-alive", "close"), (201,)),
    Case("connection twice, close first", _twice("Connection", "close", "keep-alive"), (201,)),
    Case("accept twice", _twice("Accept", "a", "b"), (201,)),
    Case("cookies twice", _twice("Cookie", "a=b", "c=d"), (201,)),
]
LINES = [
    Case("folded", sent(LINE + "Host: a\r\nX: b\r\n c" + END)),
    Case("folded by a tab", sent(LINE + "Host: a\r\nX: b\r\n\tc" + END)),
    Case("folded pass", sent(LINE + "Host: a\r\nAuthorization: Bearer\r\n x\r\n\r\n")),
    Case("bare LF everywhere", lambda u: raw(headers=[*HOST, *of_a_grab(u)]).replace(b"\r", b"")),
    Case("bare LF once", sent(LINE + "Host: a\nX: b" + END)),
    Case("bare LF at the end", sent(LINE + "Host: a\r\n{grab}\r\n\n")),
    Case("bare LF after the first line", sent(LINE.replace("\r", "") + "Host: a" + END)),
    Case("bare CR once", sent(LINE + "Host: a\rX: b" + END)),
    Case("CR CR LF", sent(LINE + "Host: a\r\r\nX: b" + END)),
    Case("leading CRLF", lambda u: b"\r\n" + raw(headers=[*BROWSER, *of_a_grab(u)]), (201,)),
    Case("leading CRLF four times", lambda u: b"\r\n" * 4 + raw(headers=[*HOST, *of_a_grab(u)])),
    Case("leading LF", lambda u: b"\n" + raw(headers=[*HOST, *of_a_grab(u)])),
    Case("trailing CRLF", lambda u: raw(headers=[*BROWSER, *of_a_grab(u)]) + b"\r\n"),
    Case("leading blank", lambda u: b" " + raw(headers=[*HOST, *of_a_grab(u)])),
    Case("leading NUL", lambda u: b"\0" + raw(headers=[*HOST, *of_a_grab(u)])),
    Case("NUL in a value", with_headers(("X", "a\0b"))),
    Case("control byte in a value", with_headers(("X", "a\x01b"))),
    Case("DEL in a value", with_headers(("X", "a\x7fb"))),
    Case("high bytes in a value", with_headers(("X", "\xe4\xf6\xff")), (201,)),
    Case("high bytes in a name", with_headers(("X-\xe4", "a"))),
    Case("odd bytes in a name", with_headers(("X(y)", "a"))),
    Case("a header's text inside a value", with_headers(("X", "authorization: Bearer x")), (201,)),
    Case("a key's text inside a value", with_headers(("X", "idempotency-key: stolen")), (201,)),
    Case("a name that ends like one", with_headers(("X-Authorization", "Bearer x")), (201,)),
    Case("a name that begins like one", with_headers(("Idempotency-Key-2", "x")), (201,)),
    Case("a length's text in a value", with_headers(("X", "content-length: 9")), (201,)),
]
PATH = "/v1/campaigns/open/grabs"
TARGETS = [
    Case("absolute-form", to("http://shop.example" + PATH), (201,)),
    Case("absolute-form, another host", to("http://other.example:81" + PATH), (201,)),
    Case("absolute-form, https", to("https://shop.example" + PATH), (201,)),
    Case("authority-form", to("shop.example:80")),
    Case("asterisk", to("*")),
    Case("no slash", to(PATH[1:])),
    Case("a query", to(PATH + "?a=b"), (201,)),
    Case("an empty query", to(PATH + "?"), (201,)),
    Case("a query with a slash", to(PATH + "?/v1/campaigns/z/grabs"), (201,)),
    Case("a fragment", to(PATH + "#a")),
    Case("percent-encoded letter", to("/v1/campaigns/%6fpen/grabs"), (201,)),
    Case("percent-encoded slash", to("/v1/campaigns%2fopen/grabs")),
    Case("percent-encoded slash in the id", to("/v1/campaigns/a%2fopen/grabs"), (404,)),
    Case("percent-encoded NUL", to("/v1/campaigns/open%00/grabs"), (400,)),
    Case("percent-encoded badly", to("/v1/campaigns/open%zz/grabs"), (400,)),
    Case("percent-encoded high bytes", to("/v1/campaigns/%c3%a4/grabs"), (400,)),
    Case("double slash", to("/v1//campaigns/open/grabs"), (404,)),
    Case("double slash at the start", to("/" + PATH)),
    Case("trailing slash", to(PATH + "/"), (404,)),
    Case("dots", to("/v1/campaigns/./open/grabs"), (404,)),
    Case("dots upwards", to("/v1/campaigns/x/../open/grabs"), (404,)),
    Case("longer", to(PATH + "x"), (404,)),
    Case("upper case", to("/V1/campaigns/open/grabs"), (404,)),
    Case("id in upper case", to("/v1/campaigns/OPEN/grabs"), (400,)),
    Case("empty id", to("/v1/campaigns//grabs"), (404,)),
    Case("an id with a blank", to("/v1/campaigns/o pen/grabs")),
    Case("an id with a high byte", to("/v1/campaigns/\xe4/grabs")),
    Case("an id that begins with a minus", to("/v1/campaigns/-open/grabs"), (400,)),
    Case("id of one character", lambda u: raw(
        target="/v1/campaigns/z/grabs", headers=[*BROWSER, *of_a_grab(u, "z")]), (201,)),
    Case("id of 48 characters", lambda u: raw(
        target=f"/v1/campaigns/{LONG_ID}/grabs", headers=[*BROWSER, *of_a_grab(u, LONG_ID)]),
        (201,)),
    Case("id of 49 characters", lambda u: raw(
        target=f"/v1/campaigns/{LONG_ID}x/grabs", headers=[*BROWSER, *of_a_grab(u, LONG_ID)]),
        (400,)),
    Case("a path of 9 KB", to(PATH + "x" * 9000)),
    Case("a query of 9 KB", to(PATH + "?" + "x" * 9000)),
]  # fmt: skip
VERSIONS = [
    Case("HTTP/1.0", to(PATH, version="HTTP/1.0"), (201,)),
    Case("HTTP/1.0 without a host", lambda u: raw(
        headers=of_a_grab(u), version="HTTP/1.0"), (201,)),
    Case("HTTP/1.0 with two hosts", lambda u: raw(
        headers=[("Host", "a"), ("Host", "b"), *of_a_grab(u)], version="HTTP/1.0")),
    Case("HTTP/1.0 close", lambda u: raw(
        headers=[*HOST, ("Connection", "close"), *of_a_grab(u)], version="HTTP/1.0"), (201,)),
    Case("HTTP/0.9", to(PATH, version="HTTP/0.9")),
    Case("HTTP/1.2", to(PATH, version="HTTP/1.2")),
    Case("HTTP/2.0", to(PATH, version="HTTP/2.0")),
    Case("HTTP/2 preface", always(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")),
    Case("http/1.1 in lower case", to(PATH, version="http/1.1")),
    Case("HTTP/1.10", to(PATH, version="HTTP/1.10")),
    Case("HTTP/11", to(PATH, version="HTTP/11")),
    Case("HTTPS/1.1", to(PATH, version="HTTPS/1.1")),
    Case("no version", sent("POST " + PATH + "\r\nHost: a" + END)),
    Case("blank after the version", sent(LINE.replace("\r", " \r") + "Host: a" + END)),
    Case("two blanks before the target", sent(LINE.replace(" /", "  /") + "Host: a" + END)),
    Case("two blanks before the version", sent(LINE.replace(" HTTP", "  HTTP") + "Host: a" + END)),
    Case("a tab for a blank", sent(LINE.replace(" /", "\t/") + "Host: a" + END)),
]  # fmt: skip
METHODS = [
    *(Case(m, to(PATH, m), (405,)) for m in ("GET", "PUT", "DELETE", "PATCH")),
    Case("HEAD", to(PATH, "HEAD"), (405,)),
    Case("HEAD livez", to("/livez", "HEAD"), (200,)),
    Case("TRACE", to(PATH, "TRACE")),
    Case("CONNECT", to(PATH, "CONNECT")),
    Case("an invented method", to(PATH, "GRAB")),
    Case("post in lower case", to(PATH, "post")),
    Case("POSTS", to(PATH, "POSTS")),
    Case("an empty method", to(PATH, "")),
    Case("GET of a campaign", always(raw("GET", "/v1/campaigns/soon")), (200,)),
    Case("POST of a campaign", to("/v1/campaigns/soon"), (405,)),
    Case("unknown address", to("/v2"), (404,)),
    Case("passes without an identity token", to("/v1/campaigns/open/passes"), (401,)),
]
HEADS = [
    *ORDER, *SPELLING, *FEWER, *SPACING, *SCHEME, *REPEATS, *LINES, *TARGETS, *VERSIONS, *METHODS,
]  # fmt: skip
