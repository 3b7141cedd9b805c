#!lua flags=allow-oom
-- Bring the Redis side of a campaign to the target that the ledger holds.
--
-- KEYS
--   1 campaign    hash    {c:ID}
--   2 round…      hash    {c:ID}:r:N, all rounds in order
-- ARGV
--   1 epoch       epoch of the campaign
--   2 version     version of the target
--   3 operation   id of the management operation that made it
--   4 status      PUBLISHED, PAUSED or OFFLINE
--   5 quota       one a round: the absolute quota
-- RETURNS
--   {code, generation}: 0 APPLIED, and changing nothing: 1 ALREADY at this version or a later one,
--   2 MISSING, 3 EPOCH, 4 BELOW (a quota below what is granted).
-- INVARIANT
--   I1 I6: left moves by the difference of the quotas, so quota = left + granted - returned stands.
--   Repeating a version changes nothing. It runs when memory is full (allow-oom): a sale can
--   always be paused and closed.
-- COST
--   O(rounds), once a management operation.

local campaign = KEYS[1]
local epoch, version, operation, status = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local head = 4

local c = redis.call('HMGET', campaign, 'epoch', 'version', 'generation')
if not c[1] then return {2, 0} end
local generation = tonumber(c[3])
if c[1] ~= epoch then return {3, generation} end
if tonumber(c[2]) >= version then return {1, generation} end
local left = {}
for i = 2, #KEYS do
  local r = redis.call('HMGET', KEYS[i], 'quota', 'left')
  if not r[1] then return {2, generation} end
  left[i] = tonumber(r[2]) + tonumber(ARGV[head + i - 1]) - tonumber(r[1])
  if left[i] < 0 then return {4, generation} end
end

generation = generation + 1
redis.call('HSET', campaign, 'version', version, 'operation', operation, 'status', status,
  'generation', generation)
for i = 2, #KEYS do
  redis.call('HSET', KEYS[i], 'quota', ARGV[head + i - 1], 'left', left[i])
end
return {0, generation}
