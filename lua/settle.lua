#!lua flags=allow-oom
-- Note how far the ledger has every fact, and trim the outbox below that.
--
-- KEYS
--   1 campaign    hash    {c:ID}
--   2 outbox      stream  {c:ID}:outbox
-- ARGV
--   1 epoch       epoch of the campaign
--   2 watermark   highest seq up to which the ledger accounts for every fact
--   3 holes       "from-to,from-to": seqs above it that the relay must send again, or ""
-- RETURNS
--   {code, trimmed}: 0 SETTLED, and changing nothing: 1 MISSING, 2 EPOCH, 3 AHEAD (the ledger knows
--   a seq that this server never gave: its data are older than they should be).
-- INVARIANT
--   I4 I5: an entry goes only when its last fact is at or below the watermark, which never falls.
--   It runs when memory is full (allow-oom), since it is what frees memory.
-- COST
--   O(entries trimmed); the caller advances in bounded steps.

local campaign, outbox = KEYS[1], KEYS[2]
local epoch, watermark, holes = ARGV[1], tonumber(ARGV[2]), ARGV[3]

local c = redis.call('HMGET', campaign, 'epoch', 'watermark', 'seq', 'holes')
if not c[1] then return {1, 0} end
if c[1] ~= epoch then return {2, 0} end
if watermark > tonumber(c[3]) then return {3, 0} end

local trimmed = 0
if c[4] ~= holes then redis.call('HSET', campaign, 'holes', holes) end
if watermark > tonumber(c[2]) then
  redis.call('HSET', campaign, 'watermark', watermark)
  trimmed = redis.call('XTRIM', outbox, 'MINID', '=', (watermark + 1) .. '-0')
end
return {0, trimmed}
