// Numbers, times and outcomes as people read them. Pure.

export const GROUPS = [
  ['granted', 'Granted', ['GRANTED']],
  ['replayed', 'Repeated', ['REPLAYED']],
  ['soldout', 'Sold out, ended', ['SOLD_OUT', 'ENDED', 'OFFLINE']],
  ['early', 'Too early, paused', ['NOT_STARTED', 'PAUSED']],
  ['limit', 'Has his share', ['USER_LIMIT', 'DEVICE_LIMIT']],
  ['limited', 'Rate limited', ['RATE_LIMITED']],
  ['failed', 'Busy, not ready', ['BUSY', 'NOT_WARMED', 'BACKEND_UNAVAILABLE']],
  ['other', 'Other', []],
];
const GROUP_OF = new Map(GROUPS.flatMap(([key, , outcomes]) => outcomes.map((o) => [o, key])));

/** Counts by group of one row. */
export function grouped(row) {
  const found = {};
  for (const [outcome, count] of Object.entries(row.grabs || {})) {
    const key = GROUP_OF.get(outcome) || 'other';
    found[key] = (found[key] || 0) + count;
  }
  return found;
}

export const groupOf = (outcome) => GROUP_OF.get(outcome) || 'other';

export function whole(number) {
  return number === null || number === undefined ? '–' : Math.round(number).toLocaleString('en');
}

export function short(number) {
  if (number >= 1e6) return `${(number / 1e6).toFixed(1)}M`;
  if (number >= 1e4) return `${Math.round(number / 1e3)}k`;
  if (number >= 10 || Number.isInteger(number)) return `${Math.round(number)}`;
  return number.toFixed(1);
}

/** A length of time: 0.8 s, 12 s, 3:05, 2:10:00. */
export function lasting(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 100) return `${Math.floor(s)} s`;
  const parts = [Math.floor(s / 3600), Math.floor(s / 60) % 60, Math.floor(s % 60)];
  const [h, m, rest] = parts;
  if (h >= 48) return `${Math.floor(h / 24)} days`;
  const two = (n) => String(n).padStart(2, '0');
  return h ? `${h}:${two(m)}:${two(rest)}` : `${m}:${two(rest)}`;
}

export function ms(value) {
  if (value === null || value === undefined) return '–';
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`;
  return value >= 10 ? `${Math.round(value)} ms` : `${value.toFixed(1)} ms`;
}

export function at(t, fine) {
  const text = new Date(t).toLocaleTimeString('en-GB');
  return fine ? `${text}.${Math.floor((t % 1000) / 100)}` : text;
}

export function bytes(value) {
  return value === null || value === undefined ? '–' : `${Math.round(value / 1048576)} MB`;
}

/** A quantile of counts by bucket, ms, linear inside its bucket; null without an observation. */
export function quantile(counts, bounds, share) {
  const total = counts.reduce((a, b) => a + b, 0);
  if (!total) return null;
  let below = 0;
  for (let i = 0; i < counts.length; i++) {
    if (below + counts[i] >= share * total && counts[i]) {
      const lower = i ? bounds[i - 1] : 0;
      if (i >= bounds.length) return lower * 1000;
      return (lower + (bounds[i] - lower) * ((share * total - below) / counts[i])) * 1000;
    }
    below += counts[i];
  }
  return bounds[bounds.length - 1] * 1000;
}

/** Status as buyers are told it, at a moment. */
export function statusOf(campaign, left, t) {
  if (!campaign) return '…';
  if (campaign.status === 'OFFLINE') return 'OFFLINE';
  if (campaign.status === 'PAUSED') return 'PAUSED';
  const now = campaign.rounds.find((r) => r.opens_at <= t && t < r.closes_at);
  if (now) return left === 0 ? 'SOLD OUT' : 'OPEN';
  return campaign.rounds.some((r) => r.opens_at > t) ? 'NOT STARTED' : 'ENDED';
}

/** The round that a moment belongs to: open, else the next one, else the last. */
export function roundAt(campaign, t) {
  const rounds = campaign ? campaign.rounds : [];
  return rounds.find((r) => t < r.closes_at) || rounds[rounds.length - 1] || null;
}
