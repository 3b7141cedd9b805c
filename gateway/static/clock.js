// The server's time, from answers that say it.
//
// A sample says: the server's clock showed `server` at some moment between `sent` and `received`.
// A cache in between may have kept the answer, so the moment may have been earlier, never later:
// `server - received` is below the true offset in any case. So the sample where this is greatest
// is the best one: it is young, and its way back was short.

const KEPT_MS = 120_000;

export class ServerClock {
  #samples = [];

  /** This device's time as it runs, whatever somebody does to its clock. */
  local() {
    return performance.timeOrigin + performance.now();
  }

  take(sent, received, server) {
    if (!Number.isFinite(server)) return;
    const young = this.#samples.filter((sample) => received - sample.received < KEPT_MS);
    this.#samples = [...young, { received, low: server - received, high: server - sent }];
  }

  get #best() {
    return this.#samples.reduce((a, b) => (a === null || b.low > a.low ? b : a), null);
  }

  get known() {
    return this.#samples.length > 0;
  }

  get #offset() {
    const best = this.#best;
    return best === null ? 0 : (best.low + best.high) / 2;
  }

  now() {
    return this.local() + this.#offset;
  }

  /** By how much the server is ahead of what this device shows, and how well that is known (ms). */
  get difference() {
    const best = this.#best;
    return {
      offset: Math.round(this.now() - Date.now()),
      error: best === null ? Infinity : Math.ceil((best.high - best.low) / 2),
    };
  }
}
