-- wrk script: POST one grab a request, with the passes and keys of a file in turn: two lines a
-- request, pass and key. wrk -s bench/drive.lua URL -- REQUESTS HEAD AGAIN; HEAD is a file with the
-- request's first lines, AGAIN is 1 where the file begins anew at its end.
-- One thread only (each would read the file by itself).
local threads, head, requests, again = {}, nil, nil, nil
exhausted = 0

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  requests = assert(io.open(args[1]))
  requests:setvbuf('full', 1048576)
  head = assert(io.open(args[2])):read('*a')
  again = args[3] == '1'
end

function request()
  local pass = requests:read('*l')
  if not pass then
    if not again then exhausted = 1 end
    requests:seek('set')
    pass = requests:read('*l')
  end
  return head .. 'Idempotency-Key: ' .. requests:read('*l') .. '\r\nAuthorization: Bearer ' .. pass
    .. '\r\n\r\n'
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    'figures {"requests":%d,"micros":%d,"refused":%d,"broken":%d,"exhausted":%d,'
      .. '"p50_us":%d,"p99_us":%d}\n',
    summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
    threads[1]:get('exhausted'), latency:percentile(50), latency:percentile(99)))
end
