// The console: one stream, one state, painted twice a second; live, a longer time, or a replay.

import { paintAll, show, zooms } from './chart.js';
import { lasting, roundAt } from './figures.js';
import { paint, text } from './panels.js';
import { makeCharts, trend } from './pictures.js';
import { offer, reading, session, share, showActions, whoLooks } from './staff.js';

const $ = (id) => document.getElementById(id);
const LIVE_MS = 120000, STALE_MS = 3000, PACE_MS = 2000, BEFORE_MS = 3000, SALE_MS = 17000;
const SALE = 0; // from the opening to the last answer, while the live rows reach back that far
const RANGES = [[SALE, 'Sale'], [20, '20 s'], [120, '2 min'], [600, '10 min'], [3600, '1 h'], [86400, '24 h']];

let source = null, heard = performance.now(), skew = 0, campaignId = '', campaigns = [], known = '';
let live = { rows: [], seconds: [], campaign: null, book: null, parts: [], alarms: [], notes: [], bounds: [.001, 1], until: 0, ledger: true };
let range = SALE, past = null, replay = null, shownNow = null, refreshed = 0;

const clock = () => Date.now() + skew;

// -- the stream ------------------------------------------------------------------------------------

function follow(id) {
  campaignId = id;
  source?.close();
  live = { ...live, rows: [], seconds: [], campaign: null, book: null, notes: [] };
  const url = `/ops/stream?campaign=${encodeURIComponent(id)}${reading}`;
  source = new EventSource(url);
  source.addEventListener('tick', (event) => take(JSON.parse(event.data)));
  source.onerror = () => {
    // The browser comes back by itself, unless it was refused.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => { if (source.readyState === EventSource.CLOSED) follow(campaignId); }, 3000);
  };
}

function take(told) {
  heard = performance.now();
  skew = told.now - Date.now();
  const since = told.now - LIVE_MS - 5000;
  const join = (old, added) => {
    const from = added.length ? added[0].t : Infinity;
    return [...old.filter((row) => row.t >= since && row.t < from), ...added];
  };
  live = {
    ...told,
    rows: told.whole ? told.rows : join(live.rows, told.rows),
    seconds: told.whole ? told.seconds : join(live.seconds, told.seconds),
  };
  refresh();
}

// -- what is shown ---------------------------------------------------------------------------------

/** Everything of the time in view, as charts and panels take it. */
function shown() { return shownNow; }

function derive() {
  const isNow = !replay && !past?.zoomed, now = replay ? replay.at : clock();
  const [from, to] = replay ? [replay.from, replay.to] : past?.zoomed ? [past.from, past.to] : ends(now);
  const basis = replay || past || { ...live, step: 100 };
  const until = Math.min(to, now);
  const all = basis.rows.filter((row) => row.t <= until);
  const rows = all.filter((row) => row.t >= from && (row.grabs || row.calls));
  const books = (basis === past || basis === replay ? all : live.seconds).filter((row) => row.book && row.t >= from - 60000)
    .map((row) => ({ t: row.t + 1000, book: row.book })).filter((one) => one.t <= until + 1000);
  const campaign = basis.campaign || live.campaign;
  const book = isNow ? live.book : books.length ? books[books.length - 1].book : null;
  const lefts = leftsOf(all, books, campaign, from, basis.step);
  if (lefts.length && until > lefts[lefts.length - 1].t) lefts.push({ t: until, left: lefts[lefts.length - 1].left });
  const left = lefts.length ? lefts[lefts.length - 1].left : book ? book.left : null;
  // the pace of now, whatever is in view; of a part of the past, none
  const tail = replay ? all : live.rows, end = replay ? now : live.until;
  const pace = past?.zoomed ? null : grantedIn(tail, end - 1000, end);
  const notes = basis.notes.filter((note) => note.t <= now);
  shownNow = {
    rows, books, lefts, step: basis.step, bounds: basis.bounds, campaign, book, left, rate: pace,
    peak: peakOf(rows, basis.step),
    forecast: past?.zoomed ? null : forecastOf(tail, left, end),
    soldOut: left === 0 ? soldOutAt(lefts, notes, roundAt(campaign, now)) : null,
    parts: live.parts, alarms: live.alarms, notes, trend: trend(books),
  };
  show({ from, to: Math.max(to, from + 1000), step: basis.step }, notes.filter((note) => note.t >= from));
  return now;
}

/** Where a live view begins and ends. A sale of two seconds stands still once its answers end. */
function ends(now) {
  const opened = live.campaign?.rounds.filter((r) => r.opens_at - BEFORE_MS <= now).pop()?.opens_at;
  if (range !== SALE) return [now - range * 1000, now];
  if (!opened || now - opened > LIVE_MS) return [now - LIVE_MS, now];
  const heard = [...live.rows.filter((row) => row.grabs), ...live.notes].map((one) => one.t);
  return [opened - BEFORE_MS, Math.max(opened + SALE_MS, ...heard.map((t) => Math.min(t, now) + BEFORE_MS))];
}

const grantedIn = (rows, from, to) => rows.reduce((sum, row) => sum + (from <= row.t && row.t < to ? row.grabs?.GRANTED || 0 : 0), 0);

/** Left of the round of each moment: as the gateways told it; before that, of a campaign with one
 * round, as the books had it. The last one before the view is where the line begins. */
function leftsOf(rows, books, campaign, from, step) {
  const found = [], by = {};
  for (const row of rows) {
    if (!row.left) continue;
    Object.assign(by, row.left);
    const left = by[roundAt(campaign, row.t)?.round ?? 1];
    if (left !== undefined) found.push({ t: row.t + step, left });
  }
  if (campaign?.rounds.length === 1) {
    const first = found.length ? found[0].t - 2000 : Infinity;
    found.unshift(...books.filter((one) => one.t < first && one.book.left !== null).map((one) => ({ t: one.t, left: one.book.left })));
  }
  return found.filter((one, i) => one.t >= from || !found[i + 1] || found[i + 1].t >= from).map((one) => ({ ...one, t: Math.max(one.t, from) }));
}

function peakOf(rows, step) {
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
function forecastOf(rows, left, t) {
  if (!left) return null;
  const recent = rows.filter((row) => row.t > t - PACE_MS - 500 && row.grabs?.GRANTED);
  if (!recent.length) return null;
  const pace = recent.reduce((sum, row) => sum + row.grabs.GRANTED, 0) / Math.max(200, t - recent[0].t);
  return { t, left, gone: t + left / pace };
}

function soldOutAt(lefts, notes, round) {
  const note = notes.filter((one) => one.kind === 'sold out' && (!round || one.t >= round.opens_at)).pop();
  if (note) return note.t;
  const zero = lefts.findIndex((one, i) => one.left === 0 && lefts.slice(i).every((later) => later.left === 0));
  return zero > 0 ? lefts[zero].t : null;
}

function refresh() {
  const now = derive();
  paint(shownNow, now, clock());
  offer(live.campaign);
  text('away', live.ledger ? '' : 'PostgreSQL does not answer: grabs go on; notes, history and changes wait for it.');
  $('away').hidden = live.ledger;
  $('replaying').hidden = !replay;
  paintAll();
}

function watch() {
  const silent = performance.now() - heard;
  $('stale').hidden = silent < STALE_MS;
  if (silent >= STALE_MS) text('stale', `No news from the centre for ${lasting(silent)}. What you see is old; grabs go on without it.`);
  if (replay) advance();
  if (past && !past.zoomed && performance.now() - refreshed > Math.max(2000, range * 5)) load();
  if (!$('desk').hidden && shownNow) refresh();
}

// -- longer times, and replay ----------------------------------------------------------------------

async function ask(from, to) {
  const answer = await fetch(`/ops/history?campaign=${encodeURIComponent(campaignId)}&from=${Math.floor(from)}&to=${Math.floor(to)}${reading}`);
  if (!answer.ok) throw new Error((await answer.json()).detail);
  return answer.json();
}

async function load(from, to) {
  refreshed = performance.now();
  const zoomed = from !== undefined;
  try {
    const told = await ask(from ?? clock() - range * 1000, to ?? clock());
    if (zoomed || range > 120) past = { ...told, zoomed };
    refresh();
  } catch (error) { text('hint', `History: ${error.message}`); }
  $('reset').hidden = !(past?.zoomed || replay);
}

function choose(seconds) {
  range = seconds;
  past = replay = null;
  $('player').hidden = $('reset').hidden = true;
  $('replay').value = '';
  for (const button of $('ranges').children) button.setAttribute('aria-pressed', String(Number(button.value) === seconds));
  if (seconds > 120) load(); else refresh();
}

async function play(value) {
  const [id, number] = value.split(' '), sale = campaigns.find((one) => one.id === id);
  const round = sale?.rounds.find((one) => String(one.round) === number);
  if (!round) return choose(range);
  if (id !== campaignId) { $('campaign').value = id; follow(id); }
  try {
    const told = await ask(round.opens_at - 10000, round.opens_at + 110000);
    const last = told.rows.filter((row) => row.grabs).pop();
    const to = Math.min(round.opens_at + 110000, Math.max(round.opens_at + 20000, (last?.t || 0) + 5000));
    past = null;
    replay = { ...told, from: round.opens_at - 10000, to, at: round.opens_at - 3000, playing: true, moved: performance.now() };
    $('player').hidden = $('reset').hidden = false;
    $('play').textContent = 'Pause';
    refresh();
  } catch (error) { text('hint', `Replay: ${error.message}`); }
}

function advance() {
  const now = performance.now();
  if (replay.playing) replay.at = Math.min(replay.to, replay.at + (now - replay.moved) * Number($('speed').value));
  if (replay.at >= replay.to && replay.playing) { replay.playing = false; $('play').textContent = 'Play'; }
  replay.moved = now;
  $('seek').value = Math.round(1000 * (replay.at - replay.from) / (replay.to - replay.from));
}

// -- the page --------------------------------------------------------------------------------------

async function lookForCampaigns() {
  let told;
  try {
    const answer = await fetch(`/ops/campaigns?${reading}`);
    if (answer.status === 401) { enter(null); return; }
    if (!answer.ok) return;
    told = await answer.json();
  } catch { return; } // the banner says it
  const opened = told.campaigns.flatMap((one) => one.rounds).filter((r) => r.opens_at < told.now).length;
  const listed = JSON.stringify([told.campaigns, opened]);
  if (listed === known) return;
  known = listed;
  campaigns = told.campaigns;
  const picker = $('campaign'), sales = $('replay');
  const wanted = picker.value || campaignId || soonest(campaigns, told.now)?.id || '';
  picker.replaceChildren(...campaigns.map((one) => new Option(`${one.id} · ${one.name}`, one.id)));
  picker.value = wanted;
  const gone = campaigns.flatMap((one) => one.rounds.filter((r) => r.opens_at < told.now).map((r) => [r.opens_at, one, r]));
  gone.sort((a, b) => b[0] - a[0]);
  const chosen = sales.value;
  sales.replaceChildren(new Option('choose a sale …', ''), ...gone.map(([opened, one, r]) => new Option(`${new Date(opened).toLocaleString('en-GB')} ${one.id}, round ${r.round}`, `${one.id} ${r.round}`)));
  sales.value = chosen;
  if (wanted && (wanted !== campaignId || !source)) follow(wanted);
}

/** The one that is open or opens next, else the latest. */
function soonest(list, now) {
  const soon = list.filter((one) => one.status !== 'OFFLINE' && one.rounds.some((r) => r.closes_at > now));
  const start = (one) => Math.min(...one.rounds.filter((r) => r.closes_at > now).map((r) => Math.abs(r.opens_at - now)));
  return soon.sort((a, b) => start(a) - start(b))[0] || list[0];
}

function enter(who) {
  known = ''; // whoever comes next begins anew
  $('signin').hidden = Boolean(who);
  $('desk').hidden = !who;
  $('out').hidden = !who?.role;
  $('share').hidden = !who?.role;
  text('who', who ? (who.role ? `${who.name} (${who.role})` : who.name) : 'not signed in');
  if (!who) { source?.close(); source = null; heard = Infinity; return; }
  heard = performance.now();
  showActions(who.may, () => live.campaign);
  lookForCampaigns().finally(() => { if (!source) follow(''); });
}

for (const [seconds, words] of RANGES) {
  const button = document.createElement('button');
  button.value = seconds;
  button.textContent = words;
  button.setAttribute('aria-pressed', String(seconds === range));
  button.onclick = () => choose(seconds);
  $('ranges').append(button);
}
$('campaign').onchange = (event) => { choose(range > 120 ? SALE : range); follow(event.target.value); };
$('replay').onchange = (event) => play(event.target.value);
$('reset').onclick = () => choose(range);
$('play').onclick = () => {
  replay.playing = !replay.playing;
  if (replay.playing && replay.at >= replay.to) replay.at = replay.from;
  replay.moved = performance.now();
  $('play').textContent = replay.playing ? 'Pause' : 'Play';
};
$('seek').oninput = (event) => { replay.at = replay.from + (replay.to - replay.from) * event.target.value / 1000; refresh(); };
$('share').onclick = share;
$('out').onclick = async () => { await session('DELETE'); enter(null); };
$('again').onclick = async () => enter(await session('GET'));
zooms((from, to) => {
  replay = null;
  $('player').hidden = true;
  load(from, Math.max(to, from + 1000));
});
derive();
makeCharts($('charts'), shown);
setInterval(watch, 250);
setInterval(() => { if (source) lookForCampaigns(); }, 5000);
const look = () => whoLooks().then(enter, () => { text('who', 'The centre does not answer'); });
window.addEventListener('hashchange', () => { if (location.hash.length > 20) look(); }); // a link for a page that is open
look();
