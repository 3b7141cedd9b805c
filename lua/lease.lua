#!lua flags=allow-oom
-- Let one relay lead: take the lease, keep it, or with 0 ms give it up.
--
-- KEYS
--   1 lease       hash    flashgrab:relay
-- ARGV
--   1 holder      name of the caller, which no other running relay has
--   2 epoch       epoch of the lease that it holds, or 0: it holds none
--   3 lease_ms    how long it is to hold from now on (ms)
-- RETURNS
--   {code, epoch, left_ms}: 0 HELD, and changing nothing: 1 TAKEN (by somebody else, or no longer
--   the caller's at this epoch), with the time until it may be taken.
-- INVARIANT
--   I5: of two relays one leads. Whoever takes the lease gets the next epoch; an older one keeps
--   nothing, however late it asks. Besides one whose time has passed, one of the caller's own name
--   is over (a process that died), and one that ends later than lease_ms from now (the clock was
--   set back). It runs when memory is full (allow-oom): relaying frees it.
-- COST
--   O(1), twice a second from the leader; the others write nothing.

local lease = KEYS[1]
local holder, epoch, lease_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local l = redis.call('HMGET', lease, 'holder', 'epoch', 'until_ms')
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local current, left_ms = tonumber(l[2] or 0), tonumber(l[3] or 0) - now_ms
local held = l[1] == holder and current == epoch
local over = left_ms <= 0 or left_ms > lease_ms or l[1] == holder
if not held and (epoch > 0 or not over) then return {1, current, math.max(0, left_ms)} end

if not held then current = current + 1 end
redis.call('HSET', lease, 'holder', holder, 'epoch', current, 'until_ms', now_ms + lease_ms)
return {0, current, lease_ms}
