-- Take one granted coupon back into the stock of its own round.
--
-- KEYS
--   1 campaign    hash    {c:ID}
--   2 holders     hash    {c:ID}:holders, user -> "serial,seq,round,state,request_id;" a grant
--   3 devices     hash    {c:ID}:devices, device -> coupons held
--   4 outbox      stream  {c:ID}:outbox
--   5 round       hash    {c:ID}:r:N, the round that granted it
-- ARGV
--   1 schema      form of the keys that the caller knows
--   2 epoch       epoch that the caller knows
--   3 run         run_id of the server that the caller is connected to
--   4 floor       highest seq that the ledger has
--   5 serial      of the grant
--   6 number      number N of KEYS[5]
--   7 user        who holds it
--   8 device      that it was granted to, "" for none
-- RETURNS
--   {code, seq}: 0 RETURNED, by the fact seq; and changing nothing, with the last seq given:
--   1 MISSING, 2 EPOCH, 3 RUN, 4 FLOOR, 5 SCHEMA, 6 UNKNOWN (the user has no such grant of this
--   round), 7 ALREADY (it was returned before), 8 BUSY (as many facts wait as the outbox takes).
-- INVARIANT
--   I1 I2 I3 I4 I6: once a serial; left and returned grow together. The grant stays in its
--   holder's entry, marked r, so that its request id still replays. XADD, the one write that can
--   be refused, is before all others.
-- COST
--   O(grants of the user): two HMGET of the books, one or two of what he holds, five writes.

local campaign, holders, devices, outbox, round = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local schema, epoch, run, floor = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local serial, number, user, device = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local c = redis.call('HMGET', campaign, 'schema', 'epoch', 'run', 'seq', 'generation', 'watermark',
  'outbox_max', 'per_device')
local seq = tonumber(c[4] or 0)
local function refuse(code)
  return {code, seq}
end
if not c[1] then return refuse(1) end
if c[2] ~= epoch then return refuse(2) end
if c[3] ~= run then return refuse(3) end
if seq < floor then return refuse(4) end
if c[1] ~= schema then return refuse(5) end
local r = redis.call('HMGET', round, 'left', 'returned')
if not r[1] then return refuse(1) end
local left, returned = tonumber(r[1]), tonumber(r[2])

local entry = redis.call('HMGET', holders, user)[1] or ''
local from = string.find(';' .. entry, ';' .. serial .. ',', 1, true)
if not from then return refuse(6) end
local grant = string.match(entry, '^[^;]+', from)
local seq_granted, in_round, state, request_id =
  string.match(grant, '^%d+,(%d+),(%d+),(%a),(.+)$')
if in_round ~= number then return refuse(6) end
if state == 'r' then return refuse(7) end
if seq >= tonumber(c[6]) + tonumber(c[7]) then return refuse(8) end
local per_device, held = tonumber(c[8]), 0
if per_device > 0 then
  held = tonumber(redis.call('HMGET', devices, device)[1] or 1) - 1
end
local marked = serial .. ',' .. seq_granted .. ',' .. number .. ',r,' .. request_id

seq = seq + 1
redis.call('XADD', outbox, seq .. '-0', 'first', seq, 'epoch', epoch, 'at_ms', now_ms, 'facts',
  'r,' .. serial .. ',' .. number .. ',' .. user .. ',' .. device .. ',' .. request_id)
redis.call('HSET', holders, user,
  string.sub(entry, 1, from - 1) .. marked .. string.sub(entry, from + #grant))
redis.call('HSET', campaign, 'seq', seq, 'generation', tonumber(c[5]) + 1)
redis.call('HSET', round, 'left', left + 1, 'returned', returned + 1)
if held > 0 then
  redis.call('HSET', devices, device, held)
elseif per_device > 0 then
  redis.call('HDEL', devices, device)
end
return {0, seq}
