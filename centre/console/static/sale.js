// What the rows of a sale say: how many are left, how fast they go, when they were gone. Pure.

import { roundAt } from './figures.js';

const NEAR_MS = 3000, PACE_MS = 2000;

/** Left by round as a book has it; what was kept by an older release knows the sum alone. */
function leftsIn(book, campaign) {
  if (Object.keys(book.lefts || {}).length) return book.lefts;
  return campaign?.rounds.length === 1 && book.left !== null ? { [campaign.rounds[0].round]: book.left } : {};
}

/** Left of one round, null where the book does not say. */
export const leftIn = (book, campaign, round) => (book && round ? leftsIn(book, campaign)[round.round] ?? null : null);

/** Left of the round that each moment belongs to. Gateways tell it by the step while it falls; the
 * books, by the second and never to the step, where no gateway says anything near: before the first
 * grab, after a restock, between rounds. The last one before the view is where the line begins. */
export function leftsOf(rows, books, campaign, { from, until, step }) {
  const told = rows.filter((row) => row.left).map((row) => ({ t: row.t + step, of: row.t, lefts: row.left }));
  const times = {};
  for (const { t, lefts } of told) for (const round of Object.keys(lefts)) (times[round] ||= []).push(t);
  const isNear = (round, t) => (times[round] || []).some((other) => Math.abs(other - t) < NEAR_MS);
  const kept = books.map(({ t, book }) => ({
    t, of: t, lefts: Object.fromEntries(Object.entries(leftsIn(book, campaign)).filter(([round]) => !isNear(round, t))),
  }));
  const edges = (campaign?.rounds || []).map((r) => ({ t: r.closes_at, of: r.closes_at, lefts: {} }));
  const by = {}, found = [];
  for (const { t, of, lefts } of [...told, ...kept, ...edges].sort((a, b) => a.t - b.t)) {
    if (t > until + step) break;
    Object.assign(by, lefts);
    const left = by[roundAt(campaign, of)?.round ?? 1];
    if (left !== undefined && left !== found[found.length - 1]?.left) found.push({ t, left });
  }
  if (found.length) found.push({ t: Math.max(until, found[found.length - 1].t), left: found[found.length - 1].left });
  return found.filter((one, i) => one.t >= from || !found[i + 1] || found[i + 1].t >= from).map((one) => ({ ...one, t: Math.max(one.t, from) }));
}

export const grantedIn = (rows, from, to) => rows.reduce((sum, row) => sum + (from <= row.t && row.t < to ? row.grabs?.GRANTED || 0 : 0), 0);

/** The most that was granted in a second. */
export function peakOf(rows, step) {
  let most = 0, sum = 0, first = 0;
  const width = Math.max(step, 1000);
  for (let i = 0; i < rows.length; i++) {
    sum += rows[i].grabs?.GRANTED || 0;
    while (rows[i].t - rows[first].t >= width) sum -= rows[first++].grabs?.GRANTED || 0;
    most = Math.max(most, sum);
  }
  return most * 1000 / width;
}

/** At the pace of the last two seconds; null without one. */
export function forecastOf(rows, left, t) {
  if (!left) return null;
  const recent = rows.filter((row) => row.t > t - PACE_MS - 500 && row.grabs?.GRANTED);
  if (!recent.length) return null;
  const pace = recent.reduce((sum, row) => sum + row.grabs.GRANTED, 0) / Math.max(200, t - recent[0].t);
  return { t, left, gone: t + left / pace };
}

/** When a round that has none left was sold out: as it was noted, whenever that was; else as the
 * line shows it; null where nobody saw it. */
export function soldOutAt(lefts, notes, round, now) {
  const note = notes.filter((one) => one.kind === 'sold out' && one.words === `round ${round?.round}` && one.t <= now).pop();
  if (note) return note.t;
  if (round?.sold_out_at && round.sold_out_at <= now) return round.sold_out_at;
  const zero = lefts.findIndex((one, i) => one.left === 0 && lefts.slice(i).every((later) => later.left === 0));
  return zero > 0 ? lefts[zero].t : null;
}
