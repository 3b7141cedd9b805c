#!lua flags=no-writes
-- Read the counters of a campaign and its outbox above a watermark, in one moment.
--
-- KEYS
--   1 campaign    hash    {c:ID}
--   2 outbox      stream  {c:ID}:outbox
--   3 round…      hash    {c:ID}:r:N, all rounds in order
-- ARGV
--   1 watermark   seq above which outbox entries are wanted
--   2 entries_max entries that one call returns at the most
-- RETURNS
--   {found, epoch, seq, serial, watermark, rounds, entries}: found is 0 or 1 (then the rest are
--   empty or true); rounds holds {quota, left, granted, returned} a round; entries as XRANGE has
--   them. More entries than entries_max are read by XRANGE up to seq: facts never change.
-- INVARIANT
--   I6, as a reading: all numbers are of the same moment. Writes nothing.
-- COST
--   O(rounds + entries_max).

local campaign, outbox = KEYS[1], KEYS[2]
local watermark, entries_max = tonumber(ARGV[1]), tonumber(ARGV[2])

local c = redis.call('HMGET', campaign, 'epoch', 'seq', 'serial', 'watermark')
if not c[1] then return {0, 0, 0, 0, 0, {}, {}} end
local rounds = {}
for i = 3, #KEYS do
  local r = redis.call('HMGET', KEYS[i], 'quota', 'left', 'granted', 'returned')
  rounds[i - 2] = {tonumber(r[1] or -1), tonumber(r[2] or -1), tonumber(r[3] or -1), tonumber(r[4] or -1)}
end
local entries = redis.call('XRANGE', outbox, (watermark + 1) .. '-0', '+', 'COUNT', entries_max)

return {1, tonumber(c[1]), tonumber(c[2]), tonumber(c[3]), tonumber(c[4]), rounds, entries}
