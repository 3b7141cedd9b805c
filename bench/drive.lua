-- wrk script: POST one grab a request, each with the next pass of a file, so each user once.
-- wrk -s bench/drive.lua URL -- PASSES PATH; one thread only (each would read the file anew).
local threads, head, passes = {}, nil, nil
number, exhausted = 0, 0

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  passes = assert(io.open(args[1]))
  head = table.concat({
    'POST ' .. args[2] .. ' HTTP/1.1',
    'Host: ' .. wrk.host .. ':' .. wrk.port,
    'Connection: keep-alive',
    'sec-ch-ua-platform: "Android"',
    'User-Agent: Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) '
      .. 'Chrome/142.0.0.0 Mobile Safari/537.36',
    'sec-ch-ua: "Chromium";v="142", "Google Chrome";v="142", "Not_A Brand";v="99"',
    'sec-ch-ua-mobile: ?1',
    'Accept: */*',
    'Origin: https://shop.example',
    'Sec-Fetch-Mode: cors',
    'Referer: https://shop.example/c/bench',
    'Accept-Encoding: gzip, deflate, br, zstd',
    'Accept-Language: en-GB,en;q=0.9',
    'Content-Length: 0',
    'Authorization: Bearer ',
  }, '\r\n')
end

function request()
  local pass = passes:read('*l')
  if not pass then
    exhausted = 1
    wrk.thread:stop()
    pass = 'none'
  end
  number = number + 1
  return head .. pass .. string.format(
    '\r\nIdempotency-Key: 018f3a5e-7c41-7d2b-9c55-%012x\r\n\r\n', number)
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    'figures {"requests":%d,"micros":%d,"refused":%d,"broken":%d,"exhausted":%d,'
      .. '"p50_us":%d,"p99_us":%d}\n',
    summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
    threads[1]:get('exhausted'), latency:percentile(50), latency:percentile(99)))
end
