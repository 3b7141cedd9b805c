// Solves a challenge of flashgrab/challenge.py in a worker of the buyer's page.
//
//   const worker = new Worker("/static/challenge-worker.js");
//   worker.onmessage = ({ data }) => ask for the pass again, header X-Challenge-Answer: data.answer
//   worker.postMessage(problem.challenge);
//
// SHA-256 by hand: the browser's own is asynchronous, 20 µs a call, and absent without TLS.
"use strict";

const K = new Int32Array(64);
const START = new Int32Array(8);
(function constants() {
  // The first 32 bits of the fractions of roots of the first 64 primes (FIPS 180-4).
  let found = 0;
  for (let n = 2; found < 64; n++) {
    let prime = true;
    for (let d = 2; d * d <= n; d++) if (n % d === 0) { prime = false; break; }
    if (!prime) continue;
    const cube = Math.cbrt(n);
    K[found] = Math.floor((cube - Math.floor(cube)) * 4294967296);
    if (found < 8) {
      const square = Math.sqrt(n);
      START[found] = Math.floor((square - Math.floor(square)) * 4294967296);
    }
    found++;
  }
})();

const W = new Int32Array(64);

// One block of 16 words from W[0..15] on top of `state`.
function compress(state) {
  for (let i = 16; i < 64; i++) {
    const x = W[i - 15], y = W[i - 2];
    const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
    const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
    W[i] = (W[i - 16] + s0 + W[i - 7] + s1) | 0;
  }
  let a = state[0], b = state[1], c = state[2], d = state[3];
  let e = state[4], f = state[5], g = state[6], h = state[7];
  for (let i = 0; i < 64; i++) {
    const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
    const t1 = (h + s1 + ((e & f) ^ (~e & g)) + K[i] + W[i]) | 0;
    const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
    const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g; g = f; f = e; e = (d + t1) | 0; d = c; c = b; b = a; a = (t1 + t2) | 0;
  }
  state[0] += a; state[1] += b; state[2] += c; state[3] += d;
  state[4] += e; state[5] += f; state[6] += g; state[7] += h;
}

// SHA-256 of ASCII text, as eight words.
function sha256(text) {
  const state = new Int32Array(START);
  const blocks = ((text.length + 8) >> 6) + 1;
  const bytes = new Uint8Array(blocks * 64);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  bytes[text.length] = 0x80;
  const view = new DataView(bytes.buffer);
  view.setUint32(bytes.length - 4, text.length * 8);
  for (let block = 0; block < blocks; block++) {
    for (let i = 0; i < 16; i++) W[i] = view.getInt32(block * 64 + i * 4);
    compress(state);
  }
  return state;
}

// SHA-256 of 40 bytes: the seed's eight words, part, counter. Gives its first word.
const attemptState = new Int32Array(8);
function attempt(seed, part, counter) {
  for (let i = 0; i < 8; i++) W[i] = seed[i];
  W[8] = part;
  W[9] = counter;
  W[10] = -2147483648;
  W[11] = W[12] = W[13] = W[14] = 0;
  W[15] = 320;
  attemptState.set(START);
  compress(attemptState);
  return attemptState[0] >>> 0;
}

function solve(challenge, bits, parts) {
  const seed = sha256(challenge);
  const work = [];
  for (let part = 0; part < parts; part++) {
    let counter = 0;
    while (attempt(seed, part, counter) >>> (32 - bits) !== 0) counter++;
    work.push(counter.toString(16));
  }
  return challenge + "," + work.join(".");
}

if (typeof module !== "undefined") {
  module.exports = { sha256, solve };
} else {
  self.onmessage = ({ data }) => {
    self.postMessage({ answer: solve(data.token, data.bits, data.parts) });
  };
}
