// The six charts: what each draws of the rows that are shown, and what it says under the pointer.

import { Chart, moment } from './chart.js';
import { GROUPS, grouped, lasting, ms, quantile, short, whole } from './figures.js';

const SHARES = [[.5, 'one', 'p50'], [.95, 'two', 'p95'], [.99, 'three', 'p99']];

/** `shown()` gives {rows, books, lefts, step, bounds, forecast} of the time in view. */
export function makeCharts(parent, shown) {
  const nearest = (list, t) => {
    if (t === null) return list[list.length - 1];
    let best = null;
    for (const one of list) if (one.t <= t) best = one; else break;
    return best;
  };
  const under = (t) => {
    const { rows, step } = shown();
    return t === null ? null : rows.filter((row) => row.t <= t && t < row.t + Math.max(step, 100));
  };
  const perStep = () => (shown().step === 100 ? '100 ms' : shown().step === 1000 ? 's' : `${shown().step / 1000} s`);

  new Chart(parent, 'Answers by outcome', {
    large: true, labels: true,
    draw(plot) {
      const rows = shown().rows.filter((row) => row.grabs).map((row) => {
        const groups = grouped(row);
        return { t: row.t, parts: GROUPS.filter(([key]) => groups[key]).map(([key]) => [key, groups[key]]) };
      });
      plot.scale(Math.max(1, ...rows.map((row) => row.parts.reduce((sum, [, v]) => sum + v, 0))));
      plot.columns(rows);
    },
    say(t) {
      const rows = under(t) ?? shown().rows, total = {};
      for (const row of rows) for (const [key, count] of Object.entries(grouped(row))) total[key] = (total[key] || 0) + count;
      const said = GROUPS.filter(([key]) => total[key]).map(([key, name]) => [key, `${name} ${whole(total[key])}`]);
      return [[null, t === null ? `a column is ${perStep()}; in view:` : `${moment(t, true)}:`], ...said];
    },
  });

  new Chart(parent, 'Left, and when it will be gone', {
    large: true, labels: true,
    draw(plot) {
      const { lefts, forecast } = shown();
      plot.scale(Math.max(1, ...lefts.map((one) => one.left)));
      plot.line(lefts.map((one) => [one.t, one.left]), 'granted', { stairs: true });
      if (forecast) plot.line([[forecast.t, forecast.left], [forecast.gone, 0]], 'two', { dashed: true });
    },
    say(t) {
      const { lefts, forecast } = shown(), one = nearest(lefts, t);
      const said = [['granted', `left ${one ? whole(one.left) : '–'}`]];
      if (forecast && t === null) said.push(['two', `gone in ${lasting(forecast.gone - forecast.t)} at this pace`]);
      return said;
    },
  });

  new Chart(parent, 'Latency', {
    draw(plot) {
      const { rows, bounds } = shown(), log = logScale(plot, bounds);
      for (const [share, colour] of SHARES) {
        plot.line(broken(rows, shown().step).map((row) => [row.t, row.seconds ? quantile(row.seconds, bounds, share) : null]), colour, { y: log });
      }
    },
    say(t) {
      const counts = summed(under(t) ?? shown().rows), { bounds } = shown();
      return SHARES.map(([share, colour, name]) => [colour, `${name} ${ms(counts.length ? quantile(counts, bounds, share) : null)}`]);
    },
  });

  new Chart(parent, 'Latency, each answer', {
    draw(plot) {
      const { rows, bounds } = shown(), log = logScale(plot, bounds), c = plot.context;
      const wide = Math.max(2, plot.x(plot.from + plot.step) - plot.x(plot.from));
      c.fillStyle = plot.colours.one;
      for (const row of rows) {
        const total = (row.seconds || []).reduce((a, b) => a + b, 0);
        (row.seconds || []).forEach((count, i) => {
          if (!count) return;
          const upper = log((bounds[i] ?? bounds[bounds.length - 1] * 2) * 1000), lower = i ? log(bounds[i - 1] * 1000) : plot.bottom;
          c.globalAlpha = .15 + .85 * count / total;
          c.fillRect(plot.x(row.t), upper, wide, Math.max(1, lower - upper));
        });
      }
      c.globalAlpha = 1;
    },
    say(t) {
      const counts = summed(under(t) ?? shown().rows), total = counts.reduce((a, b) => a + b, 0);
      return [['one', `darker: more of that moment's answers; ${whole(total)} in all`]];
    },
  });

  new Chart(parent, 'Grabs in one script call', {
    draw(plot) {
      const rows = broken(shown().rows, shown().step).map((row) => [row.t, row.calls ? row.requests / row.calls : null]);
      plot.scale(Math.max(1, ...rows.map(([, v]) => v || 0)));
      plot.line(rows, 'one');
    },
    say(t) {
      const rows = under(t) ?? shown().rows;
      const calls = rows.reduce((sum, row) => sum + (row.calls || 0), 0), all = rows.reduce((sum, row) => sum + (row.requests || 0), 0);
      return [['one', `on average ${calls ? short(all / calls) : '–'}`], [null, `${whole(calls)} calls`]];
    },
  });

  new Chart(parent, 'On the way to the ledger', {
    draw(plot) {
      const { books } = shown();
      plot.scale(Math.max(1, ...books.flatMap(({ book }) => [(book.relay_ms || 0) / 1000, (book.ledger_ms || 0) / 1000])), ' s');
      plot.line(books.map(({ t, book }) => [t, book.relay_ms === null ? null : book.relay_ms / 1000]), 'two', { stairs: true });
      plot.line(books.map(({ t, book }) => [t, book.ledger_ms === null ? null : book.ledger_ms / 1000]), 'one', { stairs: true });
    },
    say(t) {
      const one = nearest(shown().books, t), book = one ? one.book : {};
      return [['two', `relay ${ms(book.relay_ms)}`], ['one', `ledger ${ms(book.ledger_ms)}${trend(shown().books)}`], [null, `outbox ${whole(book.outbox)}`]];
    },
  });
}

/** Whether the ledger's lag grows or falls, by the last ten seconds. */
export function trend(books) {
  const last = books[books.length - 1], before = books.filter((one) => last && one.t <= last.t - 8000).pop();
  if (!last || !before || last.book.ledger_ms === null || before.book.ledger_ms === null) return '';
  const by = last.book.ledger_ms - before.book.ledger_ms;
  return by > 1500 ? ' ↑ grows' : by < -1500 ? ' ↓ falls' : ' → steady';
}

function summed(rows) {
  const counts = [];
  for (const row of rows) (row.seconds || []).forEach((count, i) => { counts[i] = (counts[i] || 0) + count; });
  return counts;
}

/** Rows with a gap where nothing was answered, so that lines end there. */
function broken(rows, step) {
  const found = [];
  for (const row of rows) {
    const last = found[found.length - 1];
    if (!row.calls) continue;
    if (last && row.t - last.t > Math.max(10 * step, 1000)) found.push({ t: last.t + step });
    found.push(row);
  }
  return found;
}

function logScale(plot, bounds) {
  const low = Math.log(bounds[0] * 500), high = Math.log(bounds[bounds.length - 1] * 2000);
  const y = (value) => plot.bottom - (Math.log(Math.max(value, bounds[0] * 500)) - low) / (high - low) * (plot.bottom - plot.top);
  plot.ticks([1, 10, 100, 1000].map((v) => [y(v), v < 1000 ? `${v} ms` : '1 s']));
  return y;
}
