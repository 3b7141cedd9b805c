// What the page says, in the reader's language. The catalogues are shared with the server.

import { ask, pauseOf, sleep } from "./ask.js";
import { shared } from "./store.js";

const LANGUAGES = ["en", "zh"];
let catalogue = {};
let current = "en";

/** Asked for in the address, chosen before, or the browser's. */
export function preferred() {
  const asked = new URLSearchParams(location.search).get("lang");
  const wanted = [asked, shared.get("lang"), ...(navigator.languages || [navigator.language])];
  const found = wanted.map((tag) => (tag || "").slice(0, 2).toLowerCase());
  return found.find((language) => LANGUAGES.includes(language)) || "en";
}

export async function speak(language) {
  catalogue = await fetched(new URL(`./${language}.json`, import.meta.url).href);
  current = language;
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-word]")) {
    element.textContent = say(element.dataset.word);
  }
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", say(element.dataset.label));
  }
  for (const link of document.querySelectorAll(".languages a")) {
    if (link.lang === language) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

async function fetched(url) {
  for (let failures = 0; ;) {
    const answer = await ask(url, { cache: "default" });
    if (answer.status === 200) return answer.body;
    await sleep(pauseOf(answer, failures++));
  }
}

/** The links of the header turn the language without a new page. */
export function onLanguage(turned) {
  document.querySelector(".languages").addEventListener("click", async (event) => {
    const link = event.target.closest("a");
    if (!link) return;
    event.preventDefault();
    shared.set("lang", link.lang);
    await speak(link.lang);
    turned();
  });
}

export function knows(key) {
  return key in catalogue;
}

export function say(key, values = {}) {
  return (catalogue[key] ?? key).replace(/\{(\w+)\}/g, (gap, name) => values[name] ?? gap);
}

/** A moment (ms) as people here write it. */
export function moment(ms) {
  const options = { dateStyle: "medium", timeStyle: "medium" };
  return new Intl.DateTimeFormat(current, options).format(ms);
}

/** A stretch of time (ms), as exactly as it is interesting. */
export function duration(ms) {
  const seconds = ms / 1000;
  if (seconds < 60) return say("duration.s", { s: seconds < 10 ? Number(seconds.toFixed(1)) : Math.round(seconds) });
  const s = Math.floor(seconds) % 60, m = Math.floor(seconds / 60) % 60;
  const h = Math.floor(seconds / 3600) % 24, d = Math.floor(seconds / 86400);
  if (d) return say("duration.d", { d, h });
  return h ? say("duration.h", { h, m }) : say("duration.m", { m, s });
}

export function number(value) {
  return new Intl.NumberFormat(current).format(value);
}

/** What a coupon is worth; as gateway/page.py says it. */
export function offer(rule) {
  if (rule.kind !== "amount_off") return "";
  const key = rule.threshold ? "offer" : "offer.any";
  return say(key, { amount: money(rule.amount), threshold: money(rule.threshold || 0) });
}

function money(cents) {
  const digits = cents % 100 ? 2 : 0;
  const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat("en", options).format(cents / 100);
}
