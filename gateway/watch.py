"""What an operator is called for, looked at beside the grabs: none of it costs a grab anything."""

import asyncio

from flashgrab.alarms import HOLD_MS, TICK_MS, Alarm
from gateway.campaigns import SchemaUnknown
from gateway.gateway import Gateway

WATCH = "watch"


async def watch(gateway: Gateway) -> None:
    """look(), for ever."""
    turned_away = 0
    while True:
        turned_away = look(gateway, turned_away)
        await asyncio.sleep(TICK_MS / 1000)


def look(gateway: Gateway, turned_away: int) -> int:
    """Begin and end what is so. `turned_away` grabs had found a queue full before; returns how many
    now."""
    alarms, wire, clock = gateway.metrics.alarms, gateway.wire, gateway.redis_clock
    connected = wire.connected.is_set()
    alarms.when(not connected, Alarm.REDIS_GONE, wire.problem, by=WATCH)
    alarms.when(not clock.trusted, Alarm.CLOCK_SKEW, f"by {clock.skew_ms()} ms", by=WATCH)
    lost, unreadable, unknown, closed = {}, {}, {}, {}
    for campaign in gateway.catalogue:
        name, state = campaign.campaign_id, campaign.state
        problem = gateway.catalogue.unreadable(name)
        if isinstance(problem, SchemaUnknown):
            unknown[name] = str(problem)
        elif problem is not None:
            unreadable[name] = repr(problem)
        elif campaign.missing:
            lost[name] = "its key is missing"
        elif connected and state is not None and state.run != wire.run_id:
            closed[name] = f"it is confirmed for run {state.run}, connected is {wire.run_id}"
    alarms.only(Alarm.REDIS_DATA_LOST, lost, by=WATCH)
    alarms.only(Alarm.CAMPAIGN_UNREADABLE, unreadable, by=WATCH)
    alarms.only(Alarm.SCHEMA_UNKNOWN, unknown, by=WATCH)
    alarms.only(Alarm.CAMPAIGN_CLOSED, closed, by=WATCH)
    gateway.limiter.look({p for c in gateway.catalogue for p in (c.limits, c.pass_limits) if p})
    now = sum(batcher.turned_away for batcher in list(gateway.batchers.values()))
    if now > turned_away:
        alarms.begin(Alarm.QUEUE_FULL, f"{now - turned_away} turned away", hold_ms=HOLD_MS)
    alarms.tick()
    return now
