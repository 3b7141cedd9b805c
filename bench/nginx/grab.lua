-- The reference in nginx-Lua: a keepalive pool of Redis connections, one EVALSHA a request.
-- A pass is `campaign.user.expires.mac`, HMAC-SHA-256 in hex, through the OpenSSL that nginx holds.
local ffi = require 'ffi'
ffi.cdef [[
  const void *EVP_sha256(void);
  unsigned char *HMAC(const void *md, const void *key, int key_len, const unsigned char *d, size_t n,
    unsigned char *out, unsigned int *out_len);
  unsigned char *ngx_hex_dump(unsigned char *out, const unsigned char *in, size_t n);
]]
local raw, text = ffi.new('unsigned char[32]'), ffi.new('unsigned char[64]')

local function check(key, token)
  local body, mac = string.match(token, '^Bearer (.+)%.(%x+)$')
  if not body then return end
  ffi.C.HMAC(ffi.C.EVP_sha256(), key, #key, body, #body, raw, nil)
  ffi.C.ngx_hex_dump(text, raw, 32)
  if ffi.string(text, 64) ~= mac then return end
  local campaign, user, expires = string.match(body, '^([^.]+)%.([^.]+)%.(%d+)$')
  if campaign and tonumber(expires) > ngx.time() then return campaign, user end
end

local function bulk(word)
  return '$' .. #word .. '\r\n' .. word .. '\r\n'
end

local function say(status, code)
  ngx.status = status
  ngx.header['Content-Type'] = 'application/problem+json'
  ngx.print('{"code":"', code, '"}')
end

return function(key, script, redis_port)
  local keys = bulk('3') .. bulk('{bench}:stock') .. bulk('{bench}:holders') .. bulk('{bench}:outbox')
  local by_sha = '*8\r\n' .. bulk('EVALSHA') .. bulk(script.sha) .. keys
  local by_text = '*8\r\n' .. bulk('EVAL') .. bulk(script.text) .. keys

  local function ask(user, request_id)
    local socket = ngx.socket.tcp()
    if not socket:connect('127.0.0.1', redis_port) then return end
    local rest = bulk(user) .. bulk(request_id)
    socket:send(by_sha .. rest)
    local reply = socket:receive()
    if reply and string.sub(reply, 1, 9) == '-NOSCRIPT' then
      socket:send(by_text .. rest)
      reply = socket:receive()
    end
    socket:setkeepalive(60000, 512)
    return reply and tonumber(string.match(reply, '^:(-?%d+)$'))
  end

  return function()
    local headers = ngx.var
    local campaign, user = check(key, headers.http_authorization or '')
    if not campaign then return say(401, 'PASS_INVALID') end
    if campaign ~= headers.campaign then return say(403, 'PASS_OTHER_CAMPAIGN') end
    local serial = ask(user, headers.http_idempotency_key or '')
    if not serial then return say(503, 'BACKEND_UNAVAILABLE') end
    if serial < 0 then return say(409, serial == -1 and 'USER_LIMIT' or 'SOLD_OUT') end
    local grab_id = campaign .. '-' .. serial
    ngx.status = 201
    ngx.header['Location'] = '/v1/grabs/' .. grab_id
    ngx.print('{"grab_id":"', grab_id, '","campaign_id":"', campaign, '","serial":', serial,
      ',"state":"GRANTED"}')
  end
end
