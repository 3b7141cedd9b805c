"""Members of a consumer group that died: the broker hears of it from who comes after them.

A broker keeps the partitions of a member that was killed until its session is over, and the
embedded one waits for it twice. A worker that comes back under the name of the one that died knows
better. Static membership (KIP-345) is made for this, and the embedded broker does not have it.
"""

from aiokafka import errors as kafka
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.group import LeaveGroupRequest

from flashgrab.broker.calls import bounded

_STATE, _MEMBERS = 2, 5  # where DescribeGroups has them; the first field of a member is its id
_UUID_CHARS = 36  # a broker makes a member's id of the client's id, "-" and a UUID


async def let_go(bootstrap: str, group: str, client_id: str, *, deadline_ms: int) -> int:
    """Have the group's members of this client id leave it; how many did.

    Only who knows that no other process has this client id may call it. A member that lives after
    all joins again. Nothing is done in the middle of a rebalance, nor where there are others, who
    may begin one: a member that leaves between JoinGroup and SyncGroup is what the embedded broker
    never gets over (it assigns nothing any more). Raises BrokerUnavailable.
    """
    left = 0
    async with bounded(deadline_ms, f"leaving group {group} for {client_id}"):
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=deadline_ms)
        try:
            await admin.start()
            coordinator = await admin.find_coordinator(group)
            for described in await admin.describe_consumer_groups([group], coordinator):
                for found in described.groups:
                    member_ids = [member[0] for member in found[_MEMBERS]]
                    alone = all(name[: -_UUID_CHARS - 1] == client_id for name in member_ids)
                    for member_id in member_ids if alone and found[_STATE] == "Stable" else ():
                        request = LeaveGroupRequest(group, member_id)
                        answer = await admin._client.send(coordinator, request)  # noqa: SLF001 (it has no such call)
                        left += answer.error_code == kafka.NoError.errno
        finally:
            await admin.close()
    return left
