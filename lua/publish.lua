-- Create the Redis side of a campaign, once.
--
-- KEYS
--   1 campaign    hash    {c:ID}
--   2 round…      hash    {c:ID}:r:N, all rounds in order
-- ARGV
--   1 schema      form of the keys
--   2 epoch       epoch of the campaign
--   3 run         run_id that the campaign is confirmed for
--   4 version     version of the definition in the ledger
--   5 operation   id of the management operation
--   6 definition  public definition, JSON
--   7 per_user    coupons that a user may hold
--   8 per_device  coupons that a device may hold, 0 for any number
--   9 outbox_max  facts that may wait for the ledger
--   10 opens_at   then closes_at (ms) and quota; these three a round
-- RETURNS
--   {code}: 0 CREATED, 1 EXISTS (any of the keys) and nothing changed.
-- INVARIANT
--   I6: left begins as quota. A key that exists is never written again.
-- COST
--   O(rounds), once in a campaign's life.

local campaign = KEYS[1]
local head = 9
local rounds = #KEYS - 1

if redis.call('EXISTS', unpack(KEYS)) > 0 then return {1} end

for i = 1, rounds do
  local opens_at, closes_at = ARGV[head + 3 * i - 2], ARGV[head + 3 * i - 1]
  local quota = ARGV[head + 3 * i]
  redis.call('HSET', KEYS[1 + i], 'opens_at', opens_at, 'closes_at', closes_at, 'quota', quota,
    'left', quota, 'granted', 0, 'returned', 0)
end
redis.call('HSET', campaign, 'schema', ARGV[1], 'epoch', ARGV[2], 'run', ARGV[3],
  'generation', 1, 'version', ARGV[4], 'status', 'PUBLISHED', 'operation', ARGV[5],
  'definition', ARGV[6], 'per_user', ARGV[7], 'per_device', ARGV[8], 'outbox_max', ARGV[9],
  'rounds', rounds, 'serial', 0, 'seq', 0, 'watermark', 0, 'holes', '')
return {0}
