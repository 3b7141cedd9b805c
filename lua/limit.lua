-- Count a batch of requests against their rate limits, each request against all of its own.
--
-- KEYS
--   1 limit…      string  {c:ID}:l:…, one a limit of somebody, each once: "tat" or "tat:rest", the
--                         moment (us) at which all of its rate is free again, and 1/burst us of it
-- ARGV
--   1 policies    "burst,window_us;" a policy; burst requests at once, and burst each window_us
--   2 of          a digit a key: which policy it has, from 1
--   3 slots       how many limits a request has
--   4 counts      two bytes a key, the high one first: how many requests are counted on it
--   5 places      two bytes a limit of a request, slots of them a request: which key (from 1), 0
--                 for none
-- RETURNS
--   {0, now_us, result...}, one result a request, in their order; 0 DECIDED. A result is 0
--   (counted, two or more are left of each limit), or {left, slot, wait_us}: left 0 or 1 counted,
--   -1 refused and counted nowhere; slot from 1 is the limit that is nearest, or that refuses for
--   longest; wait_us until it has one more. Where all results are 0 there may be none.
-- INVARIANT
--   I8: GCRA in whole numbers, with no rounding: of one limit at most burst + burst / window_us * t
--   requests are counted in any t, and none below that is refused. Of a request all limits are
--   looked at before any is counted; where two are left of each limit after all of a call, so there
--   are after each of its requests. Works by this server's clock, all of a call at one moment. A tat
--   further ahead than one can come (the clock was set back) is cut to the furthest.
-- COST
--   O(keys) where two are left of each limit, else O(keys + places): one MGET, and a SET with an
--   expiry for each key that was counted.

local policies, of, slots, counts, places = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local bursts, windows, steps, rests = {}, {}, {}, {}
for burst, window in string.gmatch(policies, '(%d+),(%d+);') do
  local n, w = tonumber(burst), tonumber(window)
  local step = math.floor(w / n)
  bursts[#bursts + 1], windows[#windows + 1] = n, w
  steps[#steps + 1], rests[#rests + 1] = step, w - step * n
end

local values = redis.call('MGET', unpack(KEYS))
local tats, parts, policy, changed = {}, {}, {}, {}
local all_tats, all_parts, roomy = {}, {}, true
for i = 1, #KEYS do
  local tat, part, p = now, 0, string.byte(of, i) - 48
  local value, n, w = values[i], bursts[p], windows[p]
  if value then
    tat = tonumber(value)
    if not tat then
      local colon = string.find(value, ':', 1, true)
      tat, part = tonumber(string.sub(value, 1, colon - 1)), tonumber(string.sub(value, colon + 1))
    end
    if tat < now then tat, part = now, 0 end
    if tat > now + w then tat, part = now + w, 0 end
  end
  tats[i], parts[i], policy[i] = tat, part, p
  if roomy then
    local high, low = string.byte(counts, 2 * i - 1, 2 * i)
    local count = high * 256 + low
    local rest = part + count * rests[p]
    local whole = math.floor(rest / n)
    local all_tat, all_part = tat + count * steps[p] + whole, rest - whole * n
    roomy = math.floor(((now + w - all_tat) * n - all_part) / w) >= 2
    all_tats[i], all_parts[i] = all_tat, all_part
  end
end

local results, next_tats, next_parts = {}, {}, {}
local requests, at = roomy and 0 or #places / 2 / slots, 0
for r = 1, requests do
  local refused, least, slot, wait = false, 2, 0, 0
  for s = 1, slots do
    local high, low = string.byte(places, at + 2 * s - 1, at + 2 * s)
    local i = high * 256 + low
    if i > 0 then
      local p = policy[i]
      local n, w, tat, part = bursts[p], windows[p], tats[i] + steps[p], parts[i] + rests[p]
      if part >= n then tat, part = tat + 1, part - n end
      local room = now + w - tat
      if room < 0 or (room == 0 and part > 0) then
        local needs = -room + (part > 0 and 1 or 0)
        if not refused or needs > wait then slot, wait = s, needs end
        refused = true
      elseif not refused then
        next_tats[s], next_parts[s] = tat, part
        local left = math.floor((room * n - part) / w)
        if left < least then
          least, slot, wait = left, s, math.ceil(((left + 1) * w + part) / n) - room
        end
      end
    end
  end
  if refused then
    results[r] = {-1, slot, wait}
  else
    for s = 1, slots do
      local high, low = string.byte(places, at + 2 * s - 1, at + 2 * s)
      local i = high * 256 + low
      if i > 0 then
        tats[i], parts[i], changed[i] = next_tats[s], next_parts[s], true
      end
    end
    results[r] = least < 2 and {least, slot, wait} or 0
  end
  at = at + 2 * slots
end

if roomy then tats, parts, changed = all_tats, all_parts, all_tats end
for i in pairs(changed) do
  local tat, part = tats[i], parts[i]
  local value = part > 0 and string.format('%.0f:%.0f', tat, part) or tat
  redis.call('SET', KEYS[i], value, 'PX', math.floor((tat - now) / 1000) + 2)
end
local reply = {0, now}
for r = 1, requests do reply[r + 2] = results[r] end
return reply
