-- What every one-command-a-request design does, as short as it can honestly be: a user's limit of
-- one, the stock, and an entry in an outbox, in one atomic step. The references share it.
-- KEYS stock, holders, outbox. ARGV user, request_id. Returns the serial, -1 USER_LIMIT, -2 SOLD_OUT.
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return -1 end
if tonumber(redis.call('HGET', KEYS[1], 'left') or 0) <= 0 then return -2 end
redis.call('HINCRBY', KEYS[1], 'left', -1)
local serial = redis.call('HINCRBY', KEYS[1], 'granted', 1)
redis.call('HSET', KEYS[2], ARGV[1], serial)
redis.call('XADD', KEYS[3], '*', 'serial', serial, 'user', ARGV[1], 'request_id', ARGV[2])
return serial
