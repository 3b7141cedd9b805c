#!lua flags=allow-oom
-- Confirm that this server knows every fact of a campaign, so that it may grant again.
--
-- KEYS
--   1 campaign    hash    {c:ID}
-- ARGV
--   1 epoch       epoch of the campaign
--   2 seq_min     highest seq that any gateway, the ledger or Kafka has seen
--   3 run         run_id of the server that was looked at
-- RETURNS
--   {code, seq}: 0 CONFIRMED, and changing nothing: 1 MISSING, 2 EPOCH, 3 BEHIND seq_min, 4 FENCED
--   (by fence.lua: a rebuild is under way).
-- INVARIANT
--   I1 I4 I7: a server that knows less than was acknowledged never grants.
--   It runs when memory is full (allow-oom): replays go on after a restart.
-- COST
--   O(1), once a restart.

local campaign = KEYS[1]
local epoch, seq_min, run = ARGV[1], tonumber(ARGV[2]), ARGV[3]

local c = redis.call('HMGET', campaign, 'epoch', 'seq', 'run')
if not c[1] then return {1, 0} end
local seq = tonumber(c[2])
if c[1] ~= epoch then return {2, seq} end
if seq < seq_min then return {3, seq} end
if c[3] == 'rebuild' then return {4, seq} end

redis.call('HSET', campaign, 'run', run)
return {0, seq}
