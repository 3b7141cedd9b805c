-- Put holders or devices of a campaign that is being rebuilt beside it, a page at a time.
--
-- KEYS
--   1 staged      hash    {c:ID}:new
--   2 holders     hash    {c:ID}:new:holders, user -> his grants as in {c:ID}:holders
--   3 devices     hash    {c:ID}:new:devices, device -> coupons held
-- ARGV
--   1 epoch       epoch that the rebuild opens
--   2 page        "begin", "holders" or "devices": what this call brings
--   3 name        then value; these two a field, at most 1000, none with "begin"
-- RETURNS
--   {code}: 0 STAGED, and changing nothing: 1 OTHER (another epoch is being staged, or none).
-- INVARIANT
--   I2 I3: nothing that a grab reads is touched; "begin" drops what an attempt before had left, and
--   a page may come twice. No shebang: when memory is full, pages are refused and the campaign
--   stays closed.
-- COST
--   O(fields): some 9 us each on a busy machine; the caller sends 250 a call, so that a million
--   holders block nobody.

local staged, holders, devices = KEYS[1], KEYS[2], KEYS[3]
local epoch, page = ARGV[1], ARGV[2]
local head = 2

local s = redis.call('HMGET', staged, 'epoch')
local words = {}
for i = 1, (#ARGV - head) / 2 do
  words[2 * i - 1] = ARGV[head + 2 * i - 1]
  words[2 * i] = ARGV[head + 2 * i]
end
if page ~= 'begin' and s[1] ~= epoch then return {1} end

if page == 'begin' then
  redis.call('UNLINK', staged, holders, devices)
  redis.call('HSET', staged, 'epoch', epoch)
elseif page == 'holders' then
  redis.call('HSET', holders, unpack(words))
else
  redis.call('HSET', devices, unpack(words))
end
return {0}
