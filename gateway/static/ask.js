// Asking the gateway. An answer is always one of: a status with its JSON, or status 0 for none.

const WITHIN_MS = 6000;

export async function ask(path, { method = "GET", headers = {}, body, cache = "no-store" } = {}) {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), WITHIN_MS);
  try {
    const response = await fetch(path, {
      method, headers, body, signal: stop.signal,
      cache, credentials: "omit", redirect: "error",
    });
    const said = await response.json();
    const seconds = Number(response.headers.get("retry-after"));
    const retryMs = said.retry_after_ms ?? (seconds ? seconds * 1000 : null);
    return { status: response.status, body: said, code: said.code || "", retryMs };
  } catch {
    return { status: 0, body: {}, code: "", retryMs: null };
  } finally {
    clearTimeout(timer);
  }
}

export function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
}

/** A time that a crowd does not share: up to `share` longer. */
export function jittered(ms, share = 0.25) {
  return ms * (1 + Math.random() * share);
}

const PAUSE_MS = 500;
const PAUSE_MS_MAX = 8000;

/** Whether this is no answer yet, so that the same has to be asked again. */
export function isOpen(answer) {
  return answer.status === 0 || answer.status === 408 || answer.status === 429
    || answer.status >= 500;
}

/** How long to wait before it (ms): what the gateway says, else longer each time. */
export function pauseOf(answer, failures) {
  return jittered(answer.retryMs ?? Math.min(PAUSE_MS_MAX, PAUSE_MS * 2 ** failures));
}
