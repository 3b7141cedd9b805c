-- Open a campaign in a new epoch, with the holders and devices that were staged for it.
--
-- KEYS
--   1 campaign    hash    {c:ID}
--   2 holders     hash    {c:ID}:holders
--   3 devices     hash    {c:ID}:devices
--   4 outbox      stream  {c:ID}:outbox
--   5 staged      hash    {c:ID}:new
--   6 new_holders hash    {c:ID}:new:holders
--   7 new_devices hash    {c:ID}:new:devices
--   8 round…      hash    {c:ID}:r:N, all rounds in order
-- ARGV
--   1 schema      form of the keys
--   2 epoch       epoch that is opened
--   3 run         run_id of the server that the caller is connected to
--   4 version     version of the ledger's target
--   5 operation   id of the management operation
--   6 definition  public definition, JSON
--   7 per_user    coupons that a user may hold
--   8 per_device  coupons that a device may hold, 0 for any number
--   9 outbox_max  facts that may wait for the ledger
--   10 status     PUBLISHED, PAUSED or OFFLINE
--   11 seq        last seq, and last serial, that the epochs before may have given
--   12 users      fields that new_holders must have
--   13 devices_n  fields that new_devices must have
--   14 opens_at   then closes_at (ms), quota, granted and returned; these five a round
-- RETURNS
--   {code, generation}: 0 REBUILT, and changing nothing: 1 ALREADY in this epoch, 2 EPOCH (in a
--   later one), 3 INCOMPLETE (what is staged is not all, or is for another epoch).
-- INVARIANT
--   I1 I2 I3 I4 I6: one moment parts the old keys from the new ones. left = quota - granted +
--   returned; seqs and serials go on beyond all that were ever given, and the ledger has, or has
--   declared void, every one up to there, so the watermark is there and the outbox empty.
-- COST
--   O(rounds): the staged keys get their names by RENAME, the old ones are freed by UNLINK.

local campaign, holders, devices, outbox = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local staged, new_holders, new_devices = KEYS[5], KEYS[6], KEYS[7]
local epoch, seq, users, devices_n = ARGV[2], ARGV[11], tonumber(ARGV[12]), tonumber(ARGV[13])
local keys = 7
local head = 13
local rounds = #KEYS - keys

local c = redis.call('HMGET', campaign, 'epoch', 'generation')
local generation = tonumber(c[2] or 0)
if c[1] == epoch then return {1, generation} end
if tonumber(c[1] or 0) > tonumber(epoch) then return {2, generation} end
local s = redis.call('HMGET', staged, 'epoch')
local holders_are, devices_are = redis.call('HLEN', new_holders), redis.call('HLEN', new_devices)
if s[1] ~= epoch or holders_are ~= users or devices_are ~= devices_n then return {3, generation} end

generation = generation + 1
redis.call('HSET', campaign, 'schema', ARGV[1], 'epoch', epoch, 'run', ARGV[3],
  'generation', generation, 'version', ARGV[4], 'status', ARGV[10], 'operation', ARGV[5],
  'definition', ARGV[6], 'per_user', ARGV[7], 'per_device', ARGV[8], 'outbox_max', ARGV[9],
  'rounds', rounds, 'serial', seq, 'seq', seq, 'watermark', seq, 'holes', '')
for i = 1, rounds do
  local opens_at, closes_at = ARGV[head + 5 * i - 4], ARGV[head + 5 * i - 3]
  local quota, granted = ARGV[head + 5 * i - 2], ARGV[head + 5 * i - 1]
  local returned = ARGV[head + 5 * i]
  redis.call('HSET', KEYS[keys + i], 'opens_at', opens_at, 'closes_at', closes_at, 'quota', quota,
    'left', quota - granted + returned, 'granted', granted, 'returned', returned)
end
redis.call('UNLINK', staged, holders, devices, outbox)
if users > 0 then redis.call('RENAME', new_holders, holders) end
if devices_n > 0 then redis.call('RENAME', new_devices, devices) end
return {0, generation}
