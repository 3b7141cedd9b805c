"""The external captcha: whether its provider vouches for a buyer's token. It fails closed.

The form is the one that the common providers share: POST secret and response to a verify URL, and
JSON with "success" comes back. The only module that knows it.
"""

import asyncio

import httpx2
import orjson
import structlog

CALLS_MAX = 64
"""At once; past it buyers are told to come back."""
TOKEN_LENGTH_MAX = 4096
REPLY_BYTES_MAX = 16 * 1024

log = structlog.get_logger()


class CaptchaUnavailable(Exception):
    """The provider was not asked, or gave no answer that means something."""


class Captcha:
    """One a process. `url` is the provider's verify address."""

    def __init__(self, url: str, secret: str, timeout_ms: int) -> None:
        self._url = url
        self._secret = secret
        self._timeout_s = timeout_ms / 1000
        self._calls = 0
        self._http = httpx2.AsyncClient(
            trust_env=False, follow_redirects=False, limits=httpx2.Limits(max_connections=CALLS_MAX)
        )
        self._said = ""

    async def is_passed(self, token: str) -> bool:
        """Whether this token was given for a solved captcha. Raises CaptchaUnavailable."""
        if not 0 < len(token) <= TOKEN_LENGTH_MAX or not token.isascii():
            return False
        if self._calls >= CALLS_MAX:
            raise CaptchaUnavailable("too many wait for the provider")
        self._calls += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._ask(token)
        except (httpx2.HTTPError, TimeoutError, ValueError) as error:
            self._say(type(error).__name__)  # its text may quote the request, and so the secret
            raise CaptchaUnavailable(type(error).__name__) from None
        finally:
            self._calls -= 1
        self._said = ""
        return answer

    async def _ask(self, token: str) -> bool:
        fields = {"secret": self._secret, "response": token}
        async with self._http.stream("POST", self._url, data=fields) as response:
            if response.status_code != 200:
                raise ValueError("another status than 200")
            body = b""
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > REPLY_BYTES_MAX:
                    raise ValueError("too long a reply")
        said = orjson.loads(body)
        if not isinstance(said, dict) or not isinstance(said.get("success"), bool):
            raise ValueError("no verdict")  # noqa: TRY004 - of the reply, not of a caller
        return said["success"] is True

    def _say(self, problem: str) -> None:
        """A problem is said once, not for each buyer."""
        if problem != self._said:
            log.warning("captcha_unavailable", error=problem)
        self._said = problem

    async def close(self) -> None:
        await self._http.aclose()
