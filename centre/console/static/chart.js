// A chart on a canvas: one time axis for all, a line under the pointer that all share, marks.
// What is drawn inside comes from the outside, as a function of a Plot.

import { at, short } from './figures.js';

const LEFT = 46, RIGHT = 8, TOP = 14, BOTTOM = 18;
const STEPS_S = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400];
const charts = [];
let colours = {}, hover = null, view = { from: 0, to: 1, step: 100 }, marks = [], onZoom = () => {};

/** Colours as the styles have them, for light or dark. */
function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ['text', 'soft', 'line', 'grid', 'card', 'bad', 'granted', 'replayed', 'soldout',
    'early', 'limit', 'limited', 'failed', 'other', 'one', 'two', 'three']) {
    colours[name] = style.getPropertyValue(`--${name}`).trim();
  }
}

/** Where values are on a canvas. */
class Plot {
  constructor(context, width, height) {
    Object.assign(this, { context, width, height, colours, from: view.from, to: view.to, step: view.step });
    this.left = LEFT; this.right = width - RIGHT; this.top = TOP; this.bottom = height - BOTTOM;
    this.most = 1;
  }

  x(t) { return this.left + (t - this.from) / (this.to - this.from) * (this.right - this.left); }
  y(value) { return this.bottom - value / this.most * (this.bottom - this.top); }
  time(x) { return this.from + (x - this.left) / (this.right - this.left) * (this.to - this.from); }

  /** A scale from 0 to a round number that fits. */
  scale(most, unit = '') {
    const tenth = 10 ** Math.floor(Math.log10(Math.max(most, 1)));
    this.most = [1, 2, 5, 10].map((n) => n * tenth).find((n) => n >= most) || 1;
    this.ticks([0, this.most / 2, this.most].map((v) => [this.y(v), short(v) + unit]));
  }

  ticks(found) {
    const c = this.context;
    c.font = '11px system-ui, sans-serif';
    c.textAlign = 'right'; c.textBaseline = 'middle';
    for (const [y, words] of found) {
      c.strokeStyle = colours.grid;
      c.beginPath(); c.moveTo(this.left, Math.round(y) + .5); c.lineTo(this.right, Math.round(y) + .5); c.stroke();
      c.fillStyle = colours.soft;
      c.fillText(words, this.left - 5, y);
    }
  }

  /** Stacked columns: [{t, parts: [[colour, value] …]}]; of those on one pixel the largest. */
  columns(rows) {
    const wide = Math.max(1, this.x(this.from + this.step) - this.x(this.from));
    const kept = new Map();
    for (const row of rows) {
      row.sum = row.parts.reduce((sum, [, value]) => sum + value, 0);
      const x = Math.round(this.x(row.t));
      if (row.sum > (kept.get(x)?.sum || 0)) kept.set(x, row);
    }
    for (const [x, row] of kept) {
      let sum = 0;
      for (const [colour, value] of row.parts) {
        const upper = this.y(sum + value), lower = this.y(sum);
        this.context.fillStyle = colours[colour];
        this.context.fillRect(x, upper, Math.max(1, wide - (wide > 4 ? 1 : 0)), Math.max(lower - upper, .5));
        sum += value;
      }
    }
  }

  /** A line through [[t, value or null] …]; `stairs` holds each value until the next. */
  line(points, colour, { stairs = false, dashed = false, y = (v) => this.y(v) } = {}) {
    const c = this.context;
    c.strokeStyle = colours[colour]; c.lineWidth = 2;
    c.setLineDash(dashed ? [5, 4] : []);
    c.beginPath();
    let last = null;
    for (const [t, value] of points) {
      if (value === null || value === undefined) { last = null; continue; }
      if (last === null) c.moveTo(this.x(t), y(value));
      else {
        if (stairs) c.lineTo(this.x(t), y(last));
        c.lineTo(this.x(t), y(value));
      }
      last = value;
    }
    c.stroke();
    c.setLineDash([]); c.lineWidth = 1;
  }
}

export class Chart {
  /** `draw(plot)` paints; `say(t or null)` gives the legend as [[colour, words] …]. */
  constructor(parent, title, { draw, say, large = false, labels = false }) {
    this.draw = draw; this.say = say; this.labels = labels;
    const box = document.createElement('div');
    box.className = large ? 'chart large' : 'chart';
    const heading = document.createElement('h2');
    heading.textContent = title;
    this.canvas = document.createElement('canvas');
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute('role', 'img');
    this.title = title;
    this.legend = document.createElement('div');
    this.legend.className = 'legend';
    box.append(heading, this.canvas, this.legend);
    parent.append(box);
    this._listen();
    charts.push(this);
  }

  _listen() {
    let down = null;
    const t = (event) => this.plot?.time(event.offsetX);
    this.canvas.addEventListener('pointermove', (e) => { this.drag = down === null ? null : [down, t(e)]; point(t(e)); });
    this.canvas.addEventListener('pointerleave', () => { this.drag = down = null; point(null); });
    this.canvas.addEventListener('pointerdown', (e) => { down = t(e); });
    this.canvas.addEventListener('pointerup', (e) => {
      const ends = [down, t(e)].sort((a, b) => a - b);
      if (down !== null && this.plot && this.plot.x(ends[1]) - this.plot.x(ends[0]) > 8) onZoom(...ends);
      this.drag = down = null;
    });
    this.canvas.addEventListener('keydown', (e) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
      if (e.key === 'Escape') point(null);
      if (!by) return;
      e.preventDefault();
      const step = Math.max(view.step, (view.to - view.from) / 200) * (e.shiftKey ? 10 : 1);
      point(Math.min(view.to, Math.max(view.from, (hover ?? view.to) + by * step)));
    });
    this.canvas.addEventListener('blur', () => point(null));
  }

  paint() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width) return;
    if (this.canvas.width !== Math.round(width * ratio)) this.canvas.width = Math.round(width * ratio);
    if (this.canvas.height !== Math.round(height * ratio)) this.canvas.height = Math.round(height * ratio);
    const context = this.canvas.getContext('2d');
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const plot = this.plot = new Plot(context, width, height);
    context.save();
    this.draw(plot);
    context.restore();
    this._axis(plot);
    this._marks(plot);
    if (hover !== null) vertical(plot, hover, colours.text, []);
    if (this.drag) {
      context.fillStyle = colours.soft; context.globalAlpha = .25;
      const [a, b] = this.drag.map((t) => plot.x(t));
      context.fillRect(Math.min(a, b), plot.top, Math.abs(b - a), plot.bottom - plot.top);
      context.globalAlpha = 1;
    }
    this._legend();
  }

  _axis(plot) {
    const { context } = plot, span = (plot.to - plot.from) / 1000;
    const room = Math.max(2, (plot.right - plot.left) / (view.origin ? 55 : 90));
    const step = (STEPS_S.find((s) => span / s <= room) || 14400) * 1000;
    context.fillStyle = colours.soft; context.font = '11px system-ui, sans-serif';
    context.textAlign = 'center'; context.textBaseline = 'top';
    const zero = view.origin || 0;
    for (let t = zero + Math.ceil((plot.from - zero) / step) * step; t <= plot.to; t += step) {
      if (plot.x(t) < plot.left + 20 || plot.x(t) > plot.right - 20) continue;
      context.fillText(moment(t), plot.x(t), plot.bottom + 4);
      context.fillRect(Math.round(plot.x(t)), plot.bottom, 1, 3);
    }
  }

  _marks(plot) {
    const shown = marks.filter((mark) => mark.t >= plot.from && mark.t <= plot.to);
    const colour = (mark) => (mark.kind === 'died' ? colours.bad : colours.soft);
    for (const mark of shown) vertical(plot, mark.t, colour(mark), [3, 3]);
    if (!this.labels) return;
    const { context } = plot;
    context.font = '11px system-ui, sans-serif'; context.textBaseline = 'bottom';
    const free = [-Infinity, -Infinity, -Infinity]; // a label that has no room above goes inside
    for (const mark of shown) {
      const x = plot.x(mark.t), words = mark.kind === 'died' || mark.kind === 'started' ? `${mark.words.split(' ')[0]} ${mark.kind}` : mark.kind;
      const width = context.measureText(words).width;
      const right = x + width + 6 > plot.right, start = right ? x - width - 3 : x + 3;
      const row = free.findIndex((end) => start - 3 >= end);
      if (row < 0) continue;
      const y = plot.top + 13 * row;
      context.fillStyle = colours.card; context.globalAlpha = .8; // above columns and lines
      context.fillRect(start - 1, y - 13, width + 2, 13);
      context.globalAlpha = 1;
      context.fillStyle = colour(mark); context.textAlign = 'left';
      context.fillText(words, start, y);
      free[row] = right ? x : x + width + 8;
    }
  }

  _legend() {
    const parts = this.say(hover);
    while (this.legend.children.length > parts.length) this.legend.lastChild.remove();
    parts.forEach(([colour, words], i) => {
      let one = this.legend.children[i];
      if (!one) {
        one = document.createElement('span');
        one.append(document.createElement('i'), document.createTextNode(''));
        this.legend.append(one);
      }
      one.firstChild.style.background = colour ? colours[colour] : 'none';
      one.firstChild.hidden = !colour;
      if (one.lastChild.data !== words) one.lastChild.data = words;
    });
    const label = `${this.title}. ${parts.map(([, words]) => words).join(', ')}`;
    if (document.activeElement === this.canvas || !this.canvas.hasAttribute('aria-label')) this.canvas.setAttribute('aria-label', label);
  }
}

function vertical(plot, t, colour, dash) {
  const { context } = plot, x = Math.round(plot.x(t)) + .5;
  context.strokeStyle = colour; context.setLineDash(dash);
  context.beginPath(); context.moveTo(x, plot.top); context.lineTo(x, plot.bottom); context.stroke();
  context.setLineDash([]);
}

function point(t) { hover = t; paintAll(); }

let due = false;
/** All of them, at the next frame. */
export function paintAll() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => { due = false; for (const chart of charts) chart.paint(); });
}

/** A moment as the axis has it: since the opening where the view is of a sale, else of the day. */
export function moment(t, fine = false) {
  if (!view.origin) return at(t, fine);
  if (t === view.origin) return 'T';
  const s = (t - view.origin) / 1000, far = Math.abs(s);
  const words = far >= 120 ? `${Math.floor(far / 60)}:${String(Math.floor(far % 60)).padStart(2, '0')}` : `${far.toFixed(fine ? 1 : 0)} s`;
  return `T${s < 0 ? '−' : '+'}${words}`;
}

/** What is shown: from, to, step and origin in ms; marks as [{t, kind, words}]. */
export function show(shown, notes) { view = shown; marks = notes; paintAll(); }

export function zooms(act) { onZoom = act; }

readColours();
window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { readColours(); paintAll(); });
new ResizeObserver(paintAll).observe(document.body);
