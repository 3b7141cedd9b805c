#!lua flags=allow-oom
-- Keep a campaign from granting until it is rebuilt.
--
-- KEYS
--   1 campaign    hash    {c:ID}
-- ARGV
--   1 epoch       epoch that is to be closed
--   2 run         run_id of the server that the caller is connected to
-- RETURNS
--   {code, seq, whole}: 0 FENCED, and changing nothing: 1 MISSING, 2 EPOCH. whole is 1 where the
--   campaign was confirmed for this run, so that the server knows every fact; 0 where nobody can
--   say, as after an earlier fence.
-- INVARIANT
--   I4 I7: no fact is given between the reading of the outbox and the cut. No server has the
--   run_id "rebuild", so grab.lua refuses and confirm.lua does; rebuild.lua alone opens again.
--   A call that comes late, for an epoch that was closed, changes nothing.
-- COST
--   O(1), once a rebuild.

local campaign = KEYS[1]
local epoch, run = ARGV[1], ARGV[2]

local c = redis.call('HMGET', campaign, 'epoch', 'seq', 'run')
if not c[1] then return {1, 0, 0} end
local seq = tonumber(c[2])
if c[1] ~= epoch then return {2, seq, 0} end

redis.call('HSET', campaign, 'run', 'rebuild')
return {0, seq, c[3] == run and 1 or 0}
