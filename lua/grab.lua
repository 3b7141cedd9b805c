-- Grant one coupon each to a batch of requests of one campaign, in their order.
--
-- KEYS
--   1 campaign    hash    {c:ID}
--   2 holders     hash    {c:ID}:holders, user -> "serial,seq,round,state,request_id;" a grant
--   3 devices     hash    {c:ID}:devices, device -> coupons held
--   4 outbox      stream  {c:ID}:outbox
--   5 round       hash    {c:ID}:r:N, the round that the caller takes for the current one
--   6 next_round  hash    {c:ID}:r:N+1, or the same key again where no round follows
-- ARGV
--   1 schema      form of the keys that the caller knows
--   2 epoch       epoch that the caller knows
--   3 run         run_id of the server that the caller is connected to
--   4 floor       highest seq that the caller has seen
--   5 number      number N of KEYS[5]
--   6 after_ms    end of the round before N, 0 where N is the first
--   7 last_ms     end of the campaign's last round
--   8 user        then device ("" for none) and request_id; these three a request, at most 1000.
--                 Where one of them is traced, a last one more: trace, for the outbox
-- RETURNS
--   {verdict, epoch, generation, seq, now_ms, round, left, result...}, one result a request;
--   round is 0 between rounds, left -1 then. Verdicts: 0 DECIDED, and changing nothing, with no
--   results: 1 MISSING, 2 EPOCH, 3 RUN, 4 FLOOR, 5 SCHEMA, 6 MOVED (other rounds are current).
--   A result is a number: the serial granted, or -1 OFFLINE, -2 ENDED, -3 PAUSED,
--   -4 NOT_STARTED, -5 BUSY, -7 DEVICE_LIMIT, -8 SOLD_OUT; or a text: "R" and the grant's
--   entry for a replay, "U" and all of the user's entries for USER_LIMIT (never as -6).
-- INVARIANT
--   I1 I2 I3 I4 I6 I7: checks come before writes, and XADD, the one write that can be refused,
--   before all others. No shebang: with one, replays would be refused when memory is full.
--   serial and seq stay below 1e14, where Lua begins to print exponents.
-- COST
--   O(requests): one HMGET of the holders, and at most five writes, however many are granted. A
--   number becomes text once a grant: that costs as much as the rest of its line.

local campaign, holders, devices, outbox = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local schema, epoch, run, floor = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local number, after_ms, last_ms = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local head = 7
local requests = math.floor((#ARGV - head) / 3)
local trace = ARGV[head + 3 * requests + 1]
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local c = redis.call('HMGET', campaign, 'schema', 'epoch', 'run', 'seq', 'serial', 'generation',
  'status', 'per_user', 'per_device', 'watermark', 'outbox_max')
local function refuse(verdict)
  return {verdict, tonumber(c[2] or 0), tonumber(c[6] or 0), tonumber(c[4] or 0), now_ms, 0, -1}
end
if not c[1] then return refuse(1) end
if c[2] ~= epoch then return refuse(2) end
if c[3] ~= run then return refuse(3) end
if tonumber(c[4]) < floor then return refuse(4) end
if c[1] ~= schema then return refuse(5) end

local function read_round(key)
  local r = redis.call('HMGET', key, 'opens_at', 'closes_at', 'left', 'granted')
  return tonumber(r[1]), tonumber(r[2]), tonumber(r[3]), tonumber(r[4])
end
local round_key, round = KEYS[5], number
local opens_at, closes_at, left, granted = read_round(round_key)
if not opens_at or now_ms < after_ms then return refuse(opens_at and 6 or 1) end
if now_ms >= closes_at and KEYS[6] ~= KEYS[5] then
  round_key, round = KEYS[6], number + 1
  opens_at, closes_at, left, granted = read_round(round_key)
  if not opens_at then return refuse(1) end
end
if now_ms >= closes_at and now_ms < last_ms then return refuse(6) end
local open = now_ms >= opens_at and now_ms < closes_at

local seq, serial, status = tonumber(c[4]), tonumber(c[5]), c[7]
local per_user, per_device = tonumber(c[8]), tonumber(c[9])
local seq_max = tonumber(c[10]) + tonumber(c[11])
local closed = (status == 'OFFLINE' and -1) or (now_ms >= last_ms and -2)
  or (status ~= 'PUBLISHED' and -3) or (not open and -4) or nil

local users, of_device = {}, {}
for i = 1, requests do users[i] = ARGV[head + 3 * i - 2] end
local entries = redis.call('HMGET', holders, unpack(users))
if per_device > 0 then
  local names = {}
  for i = 1, requests do names[i] = ARGV[head + 3 * i - 1] end
  local counts = redis.call('HMGET', devices, unpack(names))
  for i = 1, requests do of_device[names[i]] = tonumber(counts[i] or 0) end
end

local find, sub, gsub = string.find, string.sub, string.gsub
local results, facts, places, writes, changed_devices = {}, {}, {}, {}, {}
local first_seq, grants, people = seq + 1, 0, 0
local in_round, at = ',' .. round .. ',', head
for i = 1, requests do
  local user, device, request_id = users[i], ARGV[at + 2], ARGV[at + 3]
  local place = places[user]
  local entry = place and writes[place] or entries[i]
  local known = entry and find(entry, ',' .. request_id .. ';', 1, true)
  at = at + 3
  if known then
    local from = known
    while from > 1 and sub(entry, from - 1, from - 1) ~= ';' do from = from - 1 end
    results[i] = 'R' .. sub(entry, from, known + #request_id + 1)
  elseif closed then
    results[i] = closed
  elseif seq >= seq_max then
    results[i] = -5
  elseif entry and select(2, gsub(entry, ',g,', '')) >= per_user then
    results[i] = 'U' .. entry
  elseif per_device > 0 and of_device[device] >= per_device then
    results[i] = -7
  elseif left <= 0 then
    results[i] = -8
  else
    seq, serial, left, grants = seq + 1, serial + 1, left - 1, grants + 1
    results[i] = serial
    local digits = serial .. ''
    local seq_digits = seq == serial and digits or seq .. ''
    facts[grants] = 'g,' .. digits .. in_round .. user .. ',' .. device .. ',' .. request_id
    if not place then
      people = people + 2
      place = people
      places[user] = place
      writes[place - 1] = user
    end
    writes[place] = (entry or '') .. digits .. ',' .. seq_digits .. in_round .. 'g,'
      .. request_id .. ';'
    if per_device > 0 then
      of_device[device] = of_device[device] + 1
      changed_devices[device] = true
    end
  end
end

if grants > 0 then
  local entry = {'first', first_seq, 'epoch', epoch, 'at_ms', now_ms,
    'facts', table.concat(facts, ';')}
  if trace then entry[9], entry[10] = 'trace', trace end
  redis.call('XADD', outbox, seq .. '-0', unpack(entry))
  redis.call('HSET', holders, unpack(writes))
  redis.call('HSET', campaign, 'serial', serial, 'seq', seq)
  redis.call('HSET', round_key, 'left', left, 'granted', granted + grants)
  if per_device > 0 then
    local counts = {}
    for device in pairs(changed_devices) do
      counts[#counts + 1] = device
      counts[#counts + 1] = of_device[device]
    end
    redis.call('HSET', devices, unpack(counts))
  end
end
local reply = {0, tonumber(epoch), tonumber(c[6]), seq, now_ms, open and round or 0, open and left or -1}
for i = 1, requests do reply[7 + i] = results[i] end
return reply
