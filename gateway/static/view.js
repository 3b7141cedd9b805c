// What the buyer's page shows for what is known: one view a phase, drawn ten times a second, where
// nothing is touched that is the same.

import { ticket } from "./coupon.js";
import { ics, save } from "./ics.js";
import { duration, knows, moment, number, offer, say } from "./words.js";

const LAST_S = 10; // from here on tenths are shown
const SAID_AT_S = [10, 60];
const EVENT_MS = 15 * 60_000;

const still = matchMedia("(prefers-reduced-motion: reduce)");
const at = (id) => document.getElementById(id);
const name = document.querySelector("h1").textContent;

const VIEWS = {
  loading: ({ away }) => ({ title: say("loading"), text: away ? say("away") : "" }),
  unknown: () => told("CAMPAIGN_NOT_FOUND"),
  offline: () => told("OFFLINE"),
  ended: () => told("ENDED"),
  signed_out: () => ({ title: say("sign_in.title"), text: say("sign_in.text") }),
  refused: ({ refusal }) => refused(refusal),
  paused: ({ round, clock }) => ({
    ...told("PAUSED"),
    when: clock.now() < round.opens ? say("paused.when", { time: moment(round.opens) }) : "",
    button: say("PAUSED"),
  }),
  waiting: ({ round }) => ({
    label: say("waiting.label"), until: round.opens,
    when: say("waiting.when", { time: moment(round.opens) }),
    button: say("waiting.button"), stock: true, remind: true,
  }),
  open: ({ round, buyer, coupons }) => ({
    title: say("open.title"),
    text: coupons?.all.length ? say("RETURNED.text") : say("open.text", { time: moment(round.closes) }),
    button: say("grab"), armed: buyer !== null, stock: true,
  }),
  asking: () => ({ title: say("asking.title"), button: say("asking.button"), busy: true }),
  checking: () => ({ title: say("checking.title"), text: say("checking.text"), button: say("asking.button"), busy: true }),
  repeating: ({ doing, clock }) => {
    const { code } = doing.answer;
    const seconds = Math.max(0, Math.ceil((doing.until - clock.local()) / 1000));
    return {
      title: knows(code) ? say(code) : say("repeating.title"),
      text: knows(code) ? say(`${code}.text`) : say("repeating.none"),
      retry: say("repeating.retry", { seconds }), button: say("asking.button"), busy: true,
    };
  },
  sold_out: ({ round }) => {
    const after = round.sold_out_at ? Date.parse(round.sold_out_at) - round.opens : null;
    const next = round.next && Date.parse(round.next.opens_at);
    return {
      title: say("SOLD_OUT"),
      text: `${after !== null ? say("sold.after", { duration: duration(Math.max(0, after)) }) : say("sold.plain")} ${say("sold.back")}`,
      ...(next ? { label: say("next.label"), until: next, when: say("next.when", { time: moment(next) }) } : {}),
    };
  },
  coupon: ({ coupons, more }) => ({
    title: say(coupons.held.length > 1 ? "coupon.many" : "coupon.title"), text: say("coupon.keep"),
    button: more ? say("another") : "", armed: more,
  }),
};

function told(code) {
  return { title: say(code), text: say(`${code}.text`) };
}

function refused({ code, body }) {
  if (code === "CHALLENGE_REQUIRED" && body.challenge?.kind === "captcha") {
    return { title: say(code), text: say("captcha.text", { key: body.challenge.site_key }) };
  }
  return knows(code) ? told(code) : told("unknown");
}

/** Draw what is known; `phase` names the view. */
export function show(known) {
  const { state, round, buyer, clock, phase } = known;
  const view = VIEWS[phase](known);
  const left = view.until ? Math.max(0, view.until - clock.now()) : 0;
  if (at("card").dataset.phase !== phase) at("card").dataset.phase = phase;
  if (state) put("offer", offer(state.rule));
  put("round", round && state.rounds.length > 1 ? say("round", { number: round.round, rounds: state.rounds.length }) : "");
  put("title", view.title ?? "");
  put("text", view.text ?? "");
  at("outcome").hidden = !view.title;
  put("label", view.label ?? "");
  put("digits", view.until ? digits(left) : "");
  put("when", view.when ?? "");
  at("clock").hidden = !view.label && !view.when;
  put("retry", phase === "waiting" && known.checking ? say("checking.text") : view.retry ?? "");
  button(view);
  put("stock", view.stock && round ? stock(state, round) : "");
  remind(view.remind, round, state);
  tickets(known, phase);
  put("who", buyer ? say("who", { user: buyer.user }) : known.asked ? say("who.none") : "");
  const { offset, error } = clock.difference;
  put("offset", clock.known ? say("offset", { offset: `${offset > 0 ? "+" : ""}${offset}`, error }) : "");
  const short = view.until ? digits(left).replace(/\.\d$/, "") : view.title;
  const title = short ? `${short} · ${name}` : name;
  if (document.title !== title) document.title = title;
  announce(phase, view, left);
}

function put(id, text) {
  const element = at(id);
  if (element.textContent !== text) element.textContent = text;
  const hidden = text === "";
  if (element.hidden !== hidden) element.hidden = hidden;
}

/** aria-disabled and not disabled: the focus stays on it, so that Enter works at the opening. */
function button({ button: text = "", armed = false, busy = false }) {
  put("grab", text);
  const element = at("grab"), disabled = String(!armed);
  if (element.getAttribute("aria-disabled") !== disabled) element.setAttribute("aria-disabled", disabled);
  if (element.hasAttribute("data-busy") !== busy) element.toggleAttribute("data-busy", busy);
}

function stock(state, round) {
  const left = say("stock", { left: number(round.left), quota: number(round.quota) });
  return `${left} · ${say("stock.per_user", { count: number(state.per_user) })}`;
}

function remind(wanted, round, state) {
  put("remind", wanted ? say("remind") : "");
  at("remind").onclick = () => save(state.campaign_id, ics({
    uid: `${state.campaign_id}-${round.round}`, title: say("ics.opens", { name }),
    text: offer(state.rule), from: round.opens, to: round.opens + EVENT_MS,
    url: location.origin + location.pathname,
  }));
}

let drawn = "";

function tickets({ coupons, state }, phase) {
  const held = phase === "coupon" ? coupons.held : [];
  const wanted = JSON.stringify([held, document.documentElement.lang]);
  if (wanted === drawn) return;
  drawn = wanted;
  at("coupons").replaceChildren(...held.map((coupon) => ticket(coupon, state)));
}

/** 2 d 03:04:05, 04:05, and at last 9.3. */
function digits(ms) {
  if (ms < LAST_S * 1000 && !still.matches) return (Math.ceil(ms / 100) / 10).toFixed(1);
  const seconds = Math.ceil(ms / 1000);
  const two = (value) => String(value).padStart(2, "0");
  const s = seconds % 60, m = Math.floor(seconds / 60) % 60;
  const h = Math.floor(seconds / 3600) % 24, d = Math.floor(seconds / 86400);
  const clock = seconds >= 3600 ? `${two(h)}:${two(m)}:${two(s)}` : `${two(m)}:${two(s)}`;
  return d ? `${say("days", { d })} ${clock}` : clock;
}

let saidPhase = "";
let saidAt = Infinity;

/** For those who hear the page: each turn of things once, and twice how long it still takes. */
function announce(phase, view, left) {
  const turn = `${phase} ${view.title ?? ""}`;
  const passed = phase === "waiting" ? SAID_AT_S.find((s) => left <= s * 1000) ?? Infinity : Infinity;
  const isNew = turn !== saidPhase;
  if (!isNew && passed >= saidAt) return;
  saidPhase = turn;
  saidAt = passed;
  const text = {
    waiting: () => say("waiting.soon", { duration: duration(Math.ceil(left / 1000) * 1000) }),
    open: () => say("open.said"),
  }[phase] ?? (() => [view.title, view.text].filter(Boolean).join(". "));
  at("live").textContent = text();
  const focus = document.activeElement;
  if (isNew && phase === "coupon" && (focus === document.body || focus.hidden)) at("title").focus();
}

