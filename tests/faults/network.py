"""Links that delay, lose replies, stall one way, reset."""

from collections.abc import Sequence

from tests.faults.fault import Fault
from tests.faults.stack import FaultStack
from tests.services.proxy import CALM, Trouble


class Link(Fault):
    """Trouble on some links, all others stay calm. It may be made again before it is healed."""

    def __init__(
        self, stack: FaultStack, links: Sequence[str], what: str, trouble: Trouble
    ) -> None:
        super().__init__(stack, f"{what} {' '.join(links)}")
        self._proxies = [stack.links[link] for link in links]
        self._trouble = trouble
        self._before: list[int] = []

    async def inject(self) -> None:
        self._before = self._before or [proxy.reached for proxy in self._proxies]
        for proxy in self._proxies:
            proxy.trouble = self._trouble

    async def heal(self) -> None:
        for proxy in self._proxies:
            proxy.trouble = CALM

    def reached(self) -> bool:
        counts = zip(self._proxies, self._before, strict=True)
        return all(proxy.reached > before for proxy, before in counts)
