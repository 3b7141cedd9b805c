// The console: one stream, one state, painted twice a second; live, a longer time, or a replay.

import { moment, paintAll, show, zooms } from './chart.js';
import { lasting, roundAt } from './figures.js';
import { paint, text } from './panels.js';
import { makeCharts, trend } from './pictures.js';
import { forecastOf, grantedIn, leftIn, leftsOf, peakOf, soldOutAt } from './sale.js';
import { offer, reading, session, share, showActions, whoLooks } from './staff.js';

const $ = (id) => document.getElementById(id);
const LIVE_MS = 120000, STALE_MS = 3000, AGAIN_MS = 3000, BEFORE_MS = 3000, SALE_MS = 9000;
const SALE = 0; // from the opening until all is answered and in the ledger, while the live rows reach back that far
const RANGES = [[SALE, 'Sale'], [20, '20 s'], [120, '2 min'], [600, '10 min'], [3600, '1 h'], [86400, '24 h']];

let source = null, looking = 0, listing = 0, heard = performance.now(), skew = 0, campaignId = '', campaigns = [], known = '';
let live = { rows: [], seconds: [], campaign: null, book: null, parts: [], alarms: [], notes: [], bounds: [.001, 1], until: 0, ledger: true };
let range = SALE, past = null, replay = null, shownNow = null, refreshed = 0;
let turn = 0, asking = false; // of the history's answers only the one that was asked for last is taken

const clock = () => Date.now() + skew;

// -- the stream ------------------------------------------------------------------------------------

function follow(id) {
  if (id !== campaignId) {
    live = { ...live, rows: [], seconds: [], campaign: null, book: null, notes: [] };
    turn += 1;
  }
  campaignId = id;
  source?.close();
  const mine = source = new EventSource(`/ops/stream?campaign=${encodeURIComponent(id)}${reading}`);
  mine.addEventListener('tick', (event) => take(JSON.parse(event.data)));
  mine.onerror = () => {
    // The browser comes back by itself, unless it was refused.
    if (mine.readyState === EventSource.CLOSED) setTimeout(() => { if (source === mine) follow(campaignId); }, AGAIN_MS);
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
  const [from, to, origin] = replay ? [replay.from, replay.to, replay.opened] : past?.zoomed ? [past.from, past.to] : ends(now);
  const basis = replay || past || { ...live, step: 100 };
  const until = Math.min(to, now);
  const all = basis.rows.filter((row) => row.t <= until);
  const rows = all.filter((row) => row.t >= from && (row.grabs || row.calls));
  const books = (basis === past || basis === replay ? all : live.seconds).filter((row) => row.book && row.t >= from - 60000)
    .map((row) => ({ t: row.t + 1000, book: row.book })).filter((one) => one.t <= until + 1000);
  const campaign = basis.campaign || live.campaign, round = roundAt(campaign, now);
  const book = isNow ? live.book : books.length ? books[books.length - 1].book : null;
  const lefts = leftsOf(all, books, campaign, { from, until, step: basis.step });
  const left = lefts.length ? lefts[lefts.length - 1].left : leftIn(book, campaign, round);
  // the pace of now, whatever is in view; of a part of the past, none
  const tail = replay ? all : live.rows, end = replay ? now : live.until;
  const pace = past?.zoomed ? null : grantedIn(tail, end - 1000, end);
  const notes = basis.notes.filter((note) => note.t <= now);
  shownNow = {
    rows, books, lefts, step: basis.step, bounds: basis.bounds, campaign, book, left, rate: pace,
    peak: peakOf(rows, basis.step),
    forecast: past?.zoomed ? null : forecastOf(tail, left, end),
    soldOut: left === 0 ? soldOutAt(lefts, notes, round, now) : null,
    parts: live.parts, alarms: live.alarms, notes, trend: trend(books),
  };
  show({ from, to: Math.max(to, from + 1000), step: basis.step, origin }, notes.filter((note) => note.t >= from));
  text('span', `${moment(from)} to ${moment(to)}`);
  return now;
}

/** Where a live view begins and ends, and what its axis counts from. A sale of two seconds stands
 * still once its last answer was given and its last coupon is in the ledger. */
function ends(now) {
  const opened = live.campaign?.rounds.filter((r) => r.opens_at - BEFORE_MS <= now).pop()?.opens_at;
  if (range !== SALE) return [now - range * 1000, now];
  if (!opened || now - opened > LIVE_MS) return [now - LIVE_MS, now];
  const moved = [...live.rows.filter((row) => row.grabs), ...live.notes, ...live.seconds.filter((row) => row.book?.ledger_ms)];
  const happened = moved.map((one) => Math.min(one.t, now) + BEFORE_MS);
  return [opened - BEFORE_MS, Math.max(opened + SALE_MS, ...happened), opened];
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
  if (past && !past.zoomed && !asking && performance.now() - refreshed > Math.max(2000, range * 5)) load();
  if (!$('desk').hidden && shownNow) refresh();
}

// -- longer times, and replay ----------------------------------------------------------------------

async function ask(from, to) {
  const answer = await fetch(`/ops/history?campaign=${encodeURIComponent(campaignId)}&from=${Math.floor(from)}&to=${Math.floor(to)}${reading}`);
  if (!answer.ok) throw new Error((await answer.json()).detail);
  return answer.json();
}

async function load(from, to) {
  const mine = ++turn, zoomed = from !== undefined;
  refreshed = performance.now();
  asking = true;
  try {
    const told = await ask(from ?? clock() - range * 1000, to ?? clock());
    if (mine !== turn) return; // something else was asked for meanwhile, or another campaign
    if (zoomed || range > 120) past = { ...told, zoomed };
    refresh();
  } catch (error) { if (mine === turn) text('hint', `History: ${error.message}`); }
  if (mine !== turn) return;
  asking = false;
  $('reset').hidden = !(past?.zoomed || replay);
}

function choose(seconds) {
  range = seconds;
  past = replay = null;
  turn += 1;
  asking = false;
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
  const mine = ++turn;
  asking = false;
  try {
    const told = await ask(round.opens_at - 10000, round.opens_at + 110000);
    if (mine !== turn) return;
    const last = told.rows.filter((row) => row.grabs).pop();
    const to = Math.min(round.opens_at + 110000, Math.max(round.opens_at + 20000, (last?.t || 0) + 5000));
    past = null;
    replay = { ...told, opened: round.opens_at, from: round.opens_at - 10000, to, at: round.opens_at - 3000, playing: true, moved: performance.now() };
    $('player').hidden = $('reset').hidden = false;
    $('play').textContent = 'Pause';
    refresh();
  } catch (error) { if (mine === turn) text('hint', `Replay: ${error.message}`); }
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
  const mine = ++listing;
  let told;
  try {
    const answer = await fetch(`/ops/campaigns?find=${encodeURIComponent($('find').value.trim())}${reading}`);
    if (answer.status === 401) { enter(null); return; }
    if (!answer.ok) return;
    told = await answer.json();
  } catch { return; } // the banner says it
  if (mine !== listing) return;
  const opened = told.campaigns.flatMap((one) => one.rounds).filter((r) => r.opens_at < told.now).length;
  const listed = JSON.stringify([told.campaigns, opened]);
  if (listed === known) return;
  known = listed;
  const picker = $('campaign'), sales = $('replay');
  const shown = campaigns.filter((one) => one.id === campaignId && !told.campaigns.some((other) => other.id === one.id));
  campaigns = [...shown, ...told.campaigns]; // what is looked at stays, whatever is searched for
  const wanted = picker.value || campaignId || soonest(campaigns, told.now)?.id || '';
  picker.replaceChildren(...campaigns.map((one) => new Option(`${one.id} · ${one.name}`, one.id)));
  picker.value = wanted;
  const gone = campaigns.flatMap((one) => one.rounds.filter((r) => r.opens_at < told.now).map((r) => [r.opens_at, one, r]));
  gone.sort((a, b) => b[0] - a[0]);
  const chosen = sales.value;
  sales.replaceChildren(new Option(gone.length ? 'choose a sale …' : 'no sale is found', ''), ...gone.map(([opened, one, r]) => new Option(`${new Date(opened).toLocaleString('en-GB')} ${one.id}, round ${r.round}`, `${one.id} ${r.round}`)));
  sales.value = chosen;
  if (sales.selectedIndex < 0) sales.value = '';
  if (wanted && (wanted !== campaignId || !source)) follow(wanted);
}

/** The one that is open or opens next, else the latest. */
function soonest(list, now) {
  const soon = list.filter((one) => one.status !== 'OFFLINE' && one.rounds.some((r) => r.closes_at > now));
  const start = (one) => Math.min(...one.rounds.filter((r) => r.closes_at > now).map((r) => Math.abs(r.opens_at - now)));
  return soon.sort((a, b) => start(a) - start(b))[0] || list[0];
}

const away = () => text('who', 'The centre does not answer');

function enter(who) {
  known = ''; // whoever comes next begins anew
  $('signin').hidden = Boolean(who);
  $('desk').hidden = !who;
  $('out').hidden = !who?.role;
  $('share').hidden = !who?.role;
  text('who', who ? (who.role ? `${who.name} (${who.role})` : who.name) : 'not signed in');
  showActions(who?.may || [], () => live.campaign);
  $('picker').hidden = $('state').hidden = !who;
  if (!who) { source?.close(); source = null; heard = Infinity; return; }
  heard = performance.now();
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
$('out').onclick = () => session('DELETE').then(() => enter(null), away);
$('again').onclick = () => session('GET').then(enter, away);
let searching = 0;
$('find').oninput = () => { clearTimeout(searching); searching = setTimeout(lookForCampaigns, 300); };
zooms((from, to) => {
  replay = null;
  $('player').hidden = true;
  load(from, Math.max(to, from + 1000));
});
derive();
makeCharts($('charts'), shown);
setInterval(watch, 250);
setInterval(() => { if (source) lookForCampaigns(); }, 5000);
function look() {
  clearTimeout(looking);
  whoLooks().then(enter, () => { away(); looking = setTimeout(look, AGAIN_MS); });
}
window.addEventListener('hashchange', () => { if (location.hash.length > 20) look(); }); // a link for a page that is open
look();
