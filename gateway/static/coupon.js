// Coupons that this buyer holds: kept over reloads, followed until the ledger has them, shown.

import { ask, isOpen, jittered, sleep } from "./ask.js";
import { ics, save } from "./ics.js";
import { qrImage } from "./qr.js";
import { shared } from "./store.js";
import { moment, offer, say } from "./words.js";

const FIRST_LOOK_MS = 600;
const LOOK_MS_MAX = 30_000;
const SLOWER = 1.7;

export class Coupons {
  #place;
  #following = new Set();

  constructor(campaign, user) {
    this.user = user;
    this.#place = `coupons.${campaign}.${user}`;
  }

  get name() {
    return `flashgrab.${this.#place}`;
  }

  get all() {
    try {
      return JSON.parse(shared.get(this.#place) || "[]");
    } catch {
      return [];
    }
  }

  get held() {
    return this.all.filter((coupon) => coupon.state !== "RETURNED");
  }

  put({ grab_id, round, state }) {
    const others = this.all.filter((coupon) => coupon.grab_id !== grab_id);
    shared.set(this.#place, JSON.stringify([...others, { grab_id, round, state }]));
  }

  drop(grabId) {
    shared.set(this.#place, JSON.stringify(this.all.filter((c) => c.grab_id !== grabId)));
  }

  /** Look until the ledger has it, it was given back, or nobody may look any more. */
  async follow(grabId, token, changed) {
    if (this.#following.has(grabId)) return;
    this.#following.add(grabId);
    for (let pause = FIRST_LOOK_MS, wait = 0; ; pause = Math.min(LOOK_MS_MAX, pause * SLOWER)) {
      await sleep(jittered(Math.max(pause, wait), 0.8));
      const answer = await ask(`/v1/grabs/${grabId}`, { headers: { Authorization: `Bearer ${token()}` } });
      if (answer.status === 200) {
        this.put(answer.body);
        changed();
        if (answer.body.state !== "GRANTED") break;
      } else if (!isOpen(answer)) {
        if (answer.code === "GRAB_NOT_FOUND") this.drop(grabId);
        changed();
        break;
      }
      wait = answer.retryMs ?? 0;
    }
    this.#following.delete(grabId);
  }
}

/** One coupon as an element; made anew when its state or the language changes. */
export function ticket(coupon, state) {
  const until = Date.parse(state.rounds.at(-1).closes_at);
  const code = coupon.grab_id;
  const copied = element("span", { class: "unseen", role: "status" });
  const copy = element("button", { class: "quiet", type: "button" }, say("coupon.copy"));
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code);
      copy.textContent = copied.textContent = say("coupon.copied");
    } catch {
      getSelection().selectAllChildren(copy.closest(".ticket").querySelector(".code"));
    }
  });
  const calendar = element("button", { class: "quiet", type: "button" }, say("coupon.calendar"));
  calendar.addEventListener("click", () => save(code, ics({
    uid: code, title: say("coupon.ics", { code }), text: `${state.name}\n${offer(state.rule)}`,
    from: until - 30 * 60_000, to: until, url: location.origin + location.pathname,
  })));
  const facts = element("dl", { class: "facts" });
  for (const [word, value] of [["coupon.state", say(coupon.state)], ["coupon.until", moment(until)]]) {
    facts.append(element("dt", {}, say(word)), element("dd", { "data-fact": word }, value));
  }
  const box = element("section", { class: "ticket", "data-state": coupon.state });
  box.append(
    qrImage(code, say("coupon.qr", { code })),
    element("p", { class: "label" }, say("coupon.code")),
    element("p", { class: "code" }, code), facts,
    element("p", { class: "extras" }), copied,
  );
  box.querySelector(".extras").append(copy, calendar);
  return box;
}

export function element(name, attributes, text = "") {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}
