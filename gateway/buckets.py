"""The rate limits of one process: GCRA in a bounded table, before any Redis command.

Each counter's number is the moment (ns of this process' monotonic clock) at which all of its rate
is free again. Steps are cut to whole ns: never stricter than lua/limit.lua, whose word it also
keeps: who was refused there stays refused here until the time that it named. While that script
counts, this table holds nobody else, and mostly nothing.
"""

import time
from collections.abc import Sequence
from itertools import islice

from flashgrab.limits import Policies
from gateway.ratelimit import NEAR, REFUSED, ROOM, Verdict

COUNTERS_MAX = 65_536
"""Past it the oldest are forgotten; the script, if it is there, still knows them."""
FORGET_EACH = 1024

Names = Sequence[bytes | None]


class Buckets:
    """One a process. `clock` counts ns."""

    def __init__(self, counters_max: int = COUNTERS_MAX) -> None:
        self._free_at: dict[bytes, int] = {}
        self._counters_max = counters_max
        self._steps: dict[Policies, tuple[tuple[int, int], ...]] = {}
        self.clock = time.monotonic_ns

    def __len__(self) -> int:
        return len(self._free_at)

    def take(self, policies: Policies, names: Names) -> Verdict:
        """Count a request on all its counters, or, where one refuses, on none."""
        free_at, now = self._free_at, self.clock()
        steps = self._steps.get(policies) or self._steps_of(policies)
        moments: list[int] = []
        nearest, least, longest = -1, NEAR + 1, 0
        for at, name in enumerate(names):
            if name is not None:
                step, window = steps[at]
                moment = free_at.get(name, now)
                moment = (moment if moment > now else now) + step  # noqa: FURB136 - max() costs a call
                moments.append(moment)
                room = now + window - moment
                if room < step + step:
                    left = room // step if room >= 0 else REFUSED
                    wait = -room if room < 0 else (left + 1) * step - room
                    if left < least or (left == least == REFUSED and wait > longest):
                        nearest, least, longest = at, left, wait
        if least == REFUSED:
            return Verdict(policies, policies.policies[nearest], REFUSED, -(-longest // 1000), True)
        found = iter(moments)
        for name in names:
            if name is not None:
                free_at[name] = next(found)
        if len(free_at) > self._counters_max:
            self._forget()
        if nearest < 0:
            return ROOM
        return Verdict(policies, policies.policies[nearest], least, -(-longest // 1000), True)

    def refusal(self, policies: Policies, names: Names) -> Verdict | None:
        """Of a request that the script has to count; None where no counter here refuses it."""
        free_at = self._free_at
        if not free_at:
            return None
        now, steps = self.clock(), self._steps_of(policies)
        nearest, longest = -1, 0
        for at, name in enumerate(names):
            if name is not None and (moment := free_at.get(name)) is not None:
                step, window = steps[at]
                wait = moment + step - now - window
                if wait > longest:
                    nearest, longest = at, wait
                elif moment <= now:
                    del free_at[name]
        if nearest < 0:
            return None
        return Verdict(policies, policies.policies[nearest], REFUSED, -(-longest // 1000), True)

    def refuse_until(self, policies: Policies, names: Names, slot: int, wait_us: int) -> None:
        """The script refuses by the policy number `slot` for so long: so does this table."""
        name, (step, window) = names[slot], self._steps_of(policies)[slot]
        if name is not None:
            until = self.clock() + wait_us * 1000 + window - step
            self._free_at[name] = max(until, self._free_at.get(name, 0))
            if len(self._free_at) > self._counters_max:
                self._forget()

    def _steps_of(self, policies: Policies) -> tuple[tuple[int, int], ...]:
        """Step and window of each policy in ns."""
        found = self._steps.get(policies)
        if found is None:
            if len(self._steps) >= FORGET_EACH:
                self._steps.clear()
            windows = [(policy.burst, policy.window_us * 1000) for policy in policies.policies]
            found = tuple((window // burst, window) for burst, window in windows)
            self._steps[policies] = found
        return found

    def _forget(self) -> None:
        """The oldest: mostly they are over."""
        for name in list(islice(self._free_at, FORGET_EACH)):
            del self._free_at[name]
