// A QR code (ISO/IEC 18004) of up to 84 bytes: byte mode, error correction M, versions 1 to 5.
// Drawn here and not by the gateway: it would cost it milliseconds a coupon in the opening second.

/** Of each version: data bytes, error correction bytes of a block, blocks. */
const VERSIONS = [[16, 10, 1], [28, 16, 1], [44, 26, 1], [64, 18, 2], [86, 24, 2]];

const EXP = new Uint8Array(512), LOG = new Uint8Array(256);
for (let i = 0, x = 1; i < 255; i++) {
  EXP[i] = EXP[i + 255] = x;
  LOG[x] = i;
  x = x << 1 ^ (x & 0x80 ? 0x11d : 0);
}
const times = (a, b) => (a && b ? EXP[LOG[a] + LOG[b]] : 0);

/** Rows of booleans, true for dark, with the mask that the standard prefers. */
export function qr(text) {
  const bytes = new TextEncoder().encode(text);
  const version = VERSIONS.findIndex(([size]) => bytes.length <= size - 2) + 1;
  if (!version) throw new RangeError("too long for a QR code of this kind");
  const words = interleaved(padded(bytes, VERSIONS[version - 1][0]), VERSIONS[version - 1]);
  const all = MASKS.map((_, mask) => drawn(version, words, mask));
  const costs = all.map(penalty);
  return all[costs.indexOf(Math.min(...costs))];
}

function padded(bytes, size) {
  const bits = [0, 1, 0, 0];
  const push = (value) => { for (let i = 7; i >= 0; i--) bits.push(value >> i & 1); };
  push(bytes.length);
  bytes.forEach(push);
  bits.push(0, 0, 0, 0);
  const data = [];
  for (let i = 0; i < bits.length; i += 8) {
    data.push(bits.slice(i, i + 8).reduce((sum, bit) => sum << 1 | bit, 0));
  }
  for (let pad = 0xec; data.length < size; pad ^= 0xec ^ 0x11) data.push(pad);
  return data;
}

function interleaved(data, [size, extra, blocks]) {
  const each = size / blocks;
  const parts = Array.from({ length: blocks }, (_, b) => data.slice(b * each, (b + 1) * each));
  const checks = parts.map((part) => remainder(part, extra));
  const across = (rows, length) =>
    Array.from({ length }, (_, i) => rows.map((row) => row[i])).flat();
  return [...across(parts, each), ...across(checks, extra)];
}

function remainder(data, extra) {
  let generator = [1];
  for (let i = 0; i < extra; i++) {
    const next = [...generator, 0];
    generator.forEach((factor, at) => { next[at + 1] ^= times(factor, EXP[i]); });
    generator = next;
  }
  const rest = [...data, ...new Array(extra).fill(0)];
  for (let i = 0; i < data.length; i++) {
    const lead = rest[i];
    generator.forEach((factor, at) => { rest[i + at] ^= times(factor, lead); });
  }
  return rest.slice(data.length);
}

const MASKS = [
  (y, x) => (y + x) % 2 === 0,
  (y) => y % 2 === 0,
  (y, x) => x % 3 === 0,
  (y, x) => (y + x) % 3 === 0,
  (y, x) => ((y >> 1) + Math.floor(x / 3)) % 2 === 0,
  (y, x) => y * x % 2 + y * x % 3 === 0,
  (y, x) => (y * x % 2 + y * x % 3) % 2 === 0,
  (y, x) => (y * x % 3 + (y + x) % 2) % 2 === 0,
];

function drawn(version, words, mask) {
  const size = 17 + 4 * version;
  const rows = Array.from({ length: size }, () => new Array(size).fill(null));
  for (const [top, left] of [[0, 0], [0, size - 7], [size - 7, 0]]) finder(rows, top, left);
  if (version > 1) square(rows, size - 7, size - 7, 2, (d) => d !== 1);
  for (let i = 8; i < size - 8; i++) rows[6][i] = rows[i][6] = i % 2 === 0;
  format(rows, mask);
  fill(rows, words, mask);
  return rows;
}

function square(rows, y, x, reach, dark) {
  for (let dy = -reach; dy <= reach; dy++) {
    for (let dx = -reach; dx <= reach; dx++) {
      if (rows[y + dy]?.[x + dx] !== undefined) {
        rows[y + dy][x + dx] = dark(Math.max(Math.abs(dy), Math.abs(dx)));
      }
    }
  }
}

function finder(rows, top, left) {
  square(rows, top + 3, left + 3, 4, (d) => d !== 2 && d !== 4);
}

function format(rows, mask) {
  const size = rows.length;
  let rest = mask << 10; // error correction M is 00
  for (let bit = 14; bit >= 10; bit--) if (rest >> bit & 1) rest ^= 0x537 << (bit - 10);
  const bits = (mask << 10 | rest) ^ 0x5412;
  for (let i = 0; i < 15; i++) {
    const dark = (bits >> i & 1) === 1;
    rows[i < 6 ? i : i < 8 ? i + 1 : size - 15 + i][8] = dark;
    rows[8][i < 8 ? size - 1 - i : i < 9 ? 7 : 14 - i] = dark;
  }
  rows[size - 8][8] = true;
}

function fill(rows, words, mask) {
  const size = rows.length;
  let at = 0, y = size - 1, step = -1;
  for (let right = size - 1; right > 0; right -= 2) {
    if (right === 6) right = 5;
    for (; y >= 0 && y < size; y += step) {
      for (const x of [right, right - 1]) {
        if (rows[y][x] !== null) continue;
        const bit = (words[at >> 3] ?? 0) >> (7 - at % 8) & 1;
        rows[y][x] = (bit === 1) !== MASKS[mask](y, x);
        at++;
      }
    }
    step = -step;
    y += step;
  }
}

/** How hard it is to read (section 7.8.3.1): runs, blocks, look-alikes of a finder, imbalance. */
function penalty(rows) {
  const size = rows.length;
  const columns = rows.map((_, x) => rows.map((row) => row[x]));
  let cost = 0, dark = 0;
  for (const line of [...rows, ...columns]) {
    let run = 0;
    line.forEach((module, i) => {
      run = i && module === line[i - 1] ? run + 1 : 1;
      if (run === 5) cost += 3;
      else if (run > 5) cost += 1;
    });
    const text = line.map((module) => (module ? "1" : "0")).join("");
    for (const alike of ["10111010000", "00001011101"]) {
      for (let i = text.indexOf(alike); i >= 0; i = text.indexOf(alike, i + 1)) cost += 40;
    }
  }
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      dark += rows[y][x];
      if (y && x && rows[y][x] === rows[y - 1][x] && rows[y][x] === rows[y][x - 1]
        && rows[y][x] === rows[y - 1][x - 1]) cost += 3;
    }
  }
  return cost + Math.floor(Math.abs(dark * 20 - size * size * 10) / (size * size)) * 10;
}

/** The same as an SVG element, dark on white with its quiet zone, whatever the colours around. */
export function qrImage(text, label) {
  const rows = qr(text), size = rows.length + 8;
  const make = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const path = rows.flatMap((row, y) => row.map((dark, x) => (dark ? `M${x + 4} ${y + 4}h1v1h-1z` : "")));
  const image = make("svg", { viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": label, class: "qr" });
  image.append(
    make("rect", { width: size, height: size, fill: "#fff" }),
    make("path", { d: path.join(""), fill: "#000", "shape-rendering": "crispEdges" }),
  );
  return image;
}
