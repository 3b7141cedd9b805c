// Everything beside the charts: tiles, lights, tables and lists, from one state.

import { at, bytes, groupOf, lasting, ms, roundAt, statusOf, whole } from './figures.js';

const $ = (id) => document.getElementById(id);
const INVARIANTS = ['I1', 'I2', 'I3', 'I4', 'I5', 'I6'];
const MEANS = {
  I1: 'never more than the quota', I2: 'nobody above his limit', I3: 'a repeat changes nothing',
  I4: 'no fact is missing', I5: 'the ledger has every fact once', I6: 'quota = left + granted − returned',
};
const LIGHT = { 1: ['good', '✓', 'kept'], 0: ['bad', '✗', 'broken'], '?': ['warn', '?', 'unknown'] };

export function text(id, words) {
  const node = typeof id === 'string' ? $(id) : id;
  if (node.textContent !== words) node.textContent = words;
}

function light(id, kind, words, small = '') {
  const tile = $(`t-${id}`);
  tile.className = `tile light ${kind}`;
  text(`${id}-light`, words);
  text(`${id}-small`, small);
}

/** Rows of a list or table: as many children as there are values, each brought to its value. */
function each(parent, values, make, fill) {
  while (parent.children.length > values.length) parent.lastElementChild.remove();
  values.forEach((value, i) => {
    if (!parent.children[i]) parent.append(make());
    fill(parent.children[i], value);
  });
}

function tableRow(cells) {
  const row = document.createElement('tr');
  const first = document.createElement('th');
  first.scope = 'row';
  row.append(first, ...Array.from({ length: cells - 1 }, () => document.createElement('td')));
  return row;
}

/** All of it. `t` is the moment that is shown; parts and alarms are always of `now`. */
export function paint(state, t, now) {
  tiles(state, t);
  books(state);
  parts(state, now);
  alarms(state, now);
  reasons(state);
  notes(state);
}

function tiles(state, t) {
  const { campaign, book, rate, forecast, peak } = state;
  const round = roundAt(campaign, t), left = state.left;
  const status = statusOf(campaign, left, t);
  text('state', status);
  $('state').className = `chip ${{ OPEN: 'good', 'SOLD OUT': 'warn', PAUSED: 'warn', OFFLINE: 'bad' }[status] || ''}`;
  if (round) {
    const until = round.opens_at - t;
    text('clock-name', until > 0 ? 'Opens in' : t < round.closes_at ? 'Open for' : 'Ended');
    text('clock', until > 0 ? `T− ${lasting(until)}` : t < round.closes_at ? `T+ ${lasting(-until)}` : `${lasting(t - round.closes_at)} ago`);
    text('clock-small', `round ${round.round}, ${at(round.opens_at)} to ${at(round.closes_at)}`);
  }
  text('left', whole(left));
  text('left-small', round ? `of ${whole(round.quota)}` : '');
  text('rate', whole(rate));
  text('rate-small', peak ? `most: ${whole(peak)}` : '');
  text('forecast-name', left === 0 ? 'Sold out' : 'Sells out');
  if (left === 0 && !state.soldOut) {
    text('forecast', '–');
    text('forecast-small', 'nobody saw when');
  } else if (state.soldOut) {
    text('forecast', `T+ ${lasting(state.soldOut - (round ? round.opens_at : t))}`);
    text('forecast-small', at(state.soldOut, true));
  } else {
    text('forecast', forecast ? `in ${lasting(forecast.gone - t)}` : '–');
    text('forecast-small', forecast ? `forecast: ${at(forecast.gone)}` : 'no forecast without grants');
  }
  const lights = book ? book.lights : '??????';
  const wrong = INVARIANTS.filter((_, i) => lights[i] === '0');
  if (wrong.length) light('books', 'bad', '✗ Wrong', wrong.join(' '));
  else if (lights.includes('?')) light('books', 'warn', '? Unknown', 'nobody audits them now');
  else light('books', 'good', '✓ Balance', 'I1 to I6');
  const down = state.parts.filter((one) => one.down && one.down !== 'elsewhere');
  if (!state.parts.length) light('parts', 'warn', '? Unknown', 'no part is known');
  else if (down.length) light('parts', 'bad', `✗ ${down.length} down`, down.map((one) => one.part).join(', '));
  else light('parts', 'good', '✓ All up', `${state.parts.length} processes`);
  const on = state.alarms.length;
  if (on) light('alarms', 'bad', `✗ ${on} on`, state.alarms.map((one) => one.alarm).join(', '));
  else light('alarms', 'good', '✓ None', '');
}

function books({ book, campaign, trend }) {
  const lights = book ? book.lights : '??????';
  each($('lights'), INVARIANTS, () => document.createElement('a'), (node, name) => {
    const [kind, symbol, words] = LIGHT[lights[INVARIANTS.indexOf(name)]];
    node.className = kind;
    node.href = `/ops/runbook#${name.toLowerCase()}`;
    node.title = MEANS[name];
    text(node, `${symbol} ${name} ${words}`);
  });
  const of = book || {};
  const all = campaign?.rounds.length > 1 ? ', all rounds' : '';
  const rows = [
    [`Quota${all}`, whole(of.quota)], [`Left${all}`, whole(of.left)], ['Granted', whole(of.granted)], ['Returned', whole(of.returned)],
    ['Persisted', whole(of.persisted)], ['Facts given', whole(of.seq)], ['Watermark', whole(of.watermark)],
    ['Outbox entries', whole(of.outbox)], ['Relay lag', ms(of.relay_ms)], ['Ledger lag', `${ms(of.ledger_ms)}${trend || ''}`],
  ].flat();
  const list = $('books');
  while (list.children.length < rows.length) list.append(document.createElement(list.children.length % 2 ? 'dd' : 'dt'));
  rows.forEach((words, i) => text(list.children[i], words));
}

function parts({ parts: found }, t) {
  each($('parts').tBodies[0], found, () => tableRow(8), (row, one) => {
    const away = one.down && one.down !== 'elsewhere';
    const cells = [
      one.part, away ? `✗ down: ${one.down}` : one.down ? `– ${one.down}` : '✓ up', one.pid ?? '–',
      one.cpu === null ? '–' : `${Math.round(one.cpu * 100)} %`, bytes(one.memory), whole(one.connections),
      one.version || '–', one.up_since ? lasting(t - one.up_since) : '–',
    ];
    cells.forEach((words, i) => { if (i !== 1) text(row.cells[i], String(words)); });
    if (!row.cells[1].firstChild) row.cells[1].append(document.createElement('span'));
    row.cells[1].firstChild.className = `state ${away ? 'bad' : one.down ? '' : 'good'}`;
    text(row.cells[1].firstChild, cells[1]);
  });
}

function alarms({ alarms: found }, t) {
  const shown = found.length ? found : [null];
  each($('alarms'), shown, () => {
    const item = document.createElement('li');
    item.append(document.createElement('a'), document.createTextNode(''));
    return item;
  }, (item, one) => {
    item.firstChild.hidden = !one;
    if (one) {
      item.firstChild.href = one.runbook;
      text(item.firstChild, one.alarm);
      item.lastChild.data = `: ${one.words} (${one.part}, for ${lasting(t - one.since)})`;
    } else item.lastChild.data = 'None is on.';
  });
}

function reasons({ rows }) {
  const counts = new Map();
  for (const row of rows) for (const [name, count] of Object.entries(row.grabs || {})) counts.set(name, (counts.get(name) || 0) + count);
  const total = [...counts.values()].reduce((a, b) => a + b, 0);
  const found = [...counts].sort((a, b) => b[1] - a[1]);
  each($('reasons').tBodies[0], found, () => tableRow(3), (row, [name, count]) => {
    text(row.cells[0], name);
    row.dataset.group = groupOf(name);
    text(row.cells[1], whole(count));
    text(row.cells[2], `${(100 * count / total).toFixed(1)} %`);
  });
}

function notes({ notes: found }) {
  each($('notes'), [...found].reverse().slice(0, 50), () => document.createElement('li'), (item, note) => {
    text(item, `${at(note.t, true)} ${note.kind} ${note.words}`);
    item.className = note.kind === 'died' ? 'bad' : '';
  });
}
