// The buyer's page of one campaign: waits for the opening by the server's clock, asks once a press
// and until there is an answer, keeps what was won. What is shown is in view.js.

import { ask, isOpen, jittered, pauseOf, sleep } from "./ask.js";
import { askCaptcha, heardCaptcha } from "./captcha.js";
import { ServerClock } from "./clock.js";
import { Coupons } from "./coupon.js";
import { forget, keep, listen, takeFragment, whoIsIt } from "./identity.js";
import { forgetPass, getPass, keptPass } from "./pass.js";
import { random, shared } from "./store.js";
import { show } from "./view.js";
import { onLanguage, preferred, speak } from "./words.js";

const TICK_MS = 100;
const SAMPLES = 4;
const SAMPLE_PAUSE_MS = 250;
const LOOK_MS_MAX = 30_000; // while the opening is far
const LOOK_MS_MIN = 4000;
const LOOK_SOLD_OUT_MS = 15_000; // most people are here then
const QUIET_MS = 2000; // around the opening nobody looks: grabs go first
const EARLY_MS_MAX = 5000; // an opening so near is waited for after a press
const STALE_MS = 1200; // so old may a public state be, and show stock that is gone
const ASKING_MS = 600_000; // a press without an answer is gone on with for so long
const PASS_BEFORE_MS = 20_000;

const page = document.documentElement.dataset;
const origins = page.origins ? page.origins.split(" ") : [];
const claim = new URLSearchParams(location.search).get("claim");
const clock = new ServerClock();

/** All that is known. `doing`: what takes time now; `refusal`: the last definite no. */
const known = {
  id: page.campaign, state: null, gone: false, away: false, buyer: null, asked: false,
  coupons: null, doing: null, checking: false, refusal: null, soldOut: null, clock,
};
let passing = null;
let renewed = false; // in the demo, since the last pass

// -- the campaign ----------------------------------------------------------------------------------

async function look() {
  const sent = clock.local();
  const answer = await ask(`/v1/campaigns/${known.id}`);
  known.away = isOpen(answer);
  known.gone = answer.status === 404;
  if (answer.status === 200) {
    clock.take(sent, clock.local(), Date.parse(answer.body.server_time));
    known.state = answer.body;
  }
  draw();
}

async function keepLooking() {
  for (;;) {
    await sleep(untilNextLook());
    if (!["coupon", "ended", "offline"].includes(phase())) await look();
  }
}

function untilNextLook() {
  if (known.gone) return jittered(LOOK_MS_MIN); // one 404 may be a gateway that has just begun
  if (!known.state) return jittered(1000, 1);
  const opens = currentRound()?.opens ?? 0;
  const left = opens - clock.now();
  const least = phase() === "sold_out" ? LOOK_SOLD_OUT_MS : LOOK_MS_MIN;
  const pause = jittered(Math.min(LOOK_MS_MAX, Math.max(least, left / 3)), 0.5);
  const isNear = left > -QUIET_MS && pause > left - QUIET_MS && pause < left + QUIET_MS;
  return (isNear ? left + QUIET_MS + Math.random() * QUIET_MS : pause) * (document.hidden ? 3 : 1);
}

function currentRound() {
  const rounds = (known.state?.rounds ?? []).map((round) => ({
    ...round, opens: Date.parse(round.opens_at), closes: Date.parse(round.closes_at),
  }));
  const now = clock.now();
  const index = rounds.findIndex((round) => now < round.closes);
  return index < 0 ? null : { ...rounds[index], next: rounds[index + 1] ?? null };
}

/** What the page is about now. */
function phase() {
  const { state, doing, refusal } = known;
  if (doing) return doing.kind === "asking" && known.checking ? "checking" : doing.kind;
  if (state && known.coupons?.held.length) return "coupon";
  if (known.gone) return "unknown";
  if (!state) return "loading";
  if (state.status === "OFFLINE") return "offline";
  const round = currentRound();
  if (round === null || state.status === "ENDED") return "ended";
  if (refusal) return "refused";
  if (known.asked && !known.buyer) return "signed_out";
  if (state.status === "PAUSED") return "paused";
  if (clock.now() < round.opens) return "waiting";
  return isSoldOut(round) ? "sold_out" : "open";
}

function isSoldOut(round) {
  const { soldOut, state } = known;
  if (round.left === 0) return true;
  return soldOut?.round === round.round && Date.parse(state.server_time) < soldOut.at + STALE_MS;
}

// -- who, and his pass -----------------------------------------------------------------------------

async function identify() {
  const found = await whoIsIt(page.demo === "1");
  known.asked = true;
  if (found && found.token === known.buyer?.token) return;
  known.buyer = found;
  passing = null;
  if (!known.buyer) return draw();
  if (known.coupons?.user !== found.user) known.coupons = new Coupons(known.id, found.user);
  known.coupons.held.forEach(follow);
  draw();
  if (Date.now() - Number(shared.get(asking())) < ASKING_MS) return grab(); // the page was reloaded before there was an answer
  await passBefore();
}

/** The pass well before the opening, and not everybody's at once. */
async function passBefore() {
  while (!known.state) await sleep(TICK_MS);
  if (["ended", "offline", "coupon"].includes(phase())) return;
  const { buyer } = known;
  const left = (currentRound()?.opens ?? 0) - clock.now();
  if (left > PASS_BEFORE_MS) await sleep(Math.random() * Math.min(left - PASS_BEFORE_MS / 2, PASS_BEFORE_MS));
  if (buyer !== known.buyer) return; // somebody else came meanwhile
  const { refusal } = await passNow();
  if (refusal && !known.doing && buyer === known.buyer) await settle(refusal);
  draw();
}

function passNow() {
  if (passing) return passing;
  const mine = passing = getPass({
    campaign: known.id, buyer: known.buyer, now: () => clock.now(), claim,
    stamp: known.state?.page_stamp, told, captcha,
  }).then((got) => {
    if (got.pass) renewed = false;
    else if (passing === mine) passing = null;
    return got;
  });
  return mine;
}

function told(what, value, pause) {
  if (what === "checking") known.checking = value;
  else if (known.doing) known.doing = { kind: "repeating", answer: value, until: clock.local() + pause };
  draw();
}

async function captcha(challenge) {
  if (!origins.length) return null;
  told("checking", true);
  const answer = await askCaptcha(challenge.site_key);
  told("checking", false);
  return answer;
}

function heard({ identity, captcha: answer }) {
  if (typeof answer === "string") heardCaptcha(answer);
  if (typeof identity !== "string") return;
  keep(identity);
  if (known.doing) return; // goes on as who pressed; the new one serves where he is refused
  known.refusal = null;
  identify();
}

// -- the grab --------------------------------------------------------------------------------------

const keyPlace = (buyer = known.buyer) => `key.${known.id}.${buyer.user}`;
const asking = () => `asking.${known.id}.${known.buyer.user}`;

/** The key of this campaign and user, the same in all tabs and after reloads. */
function key() {
  if (!shared.get(keyPlace())) shared.set(keyPlace(), random());
  return shared.get(keyPlace()); // read again: another tab may have been first
}

async function grab() {
  if (known.doing || !known.buyer) return;
  known.doing = { kind: "asking" };
  known.refusal = null;
  shared.set(asking(), String(Date.now()));
  draw();
  const answer = await untilAnswered(key());
  shared.set(asking(), null);
  known.doing = null;
  await settle(answer);
  draw();
}

/** Ask with this key until the answer is definite: granted, or a reason why not. */
async function untilAnswered(idempotencyKey) {
  for (let failures = 0, again = false; ;) {
    const { pass, refusal } = await passNow();
    if (refusal) return refusal;
    known.doing = { kind: "asking" };
    draw();
    const headers = { Authorization: `Bearer ${pass}`, "Idempotency-Key": idempotencyKey };
    const answer = await ask(`/v1/campaigns/${known.id}/grabs`, { method: "POST", headers });
    if (answer.code === "PASS_INVALID" && !again) {
      again = true;
      dropPass();
      continue;
    }
    const isEarly = answer.code === "NOT_STARTED" && answer.retryMs <= EARLY_MS_MAX;
    if (!isOpen(answer) && !isEarly && answer.code !== "PAUSED") return answer;
    const pause = isEarly ? answer.retryMs + Math.random() * TICK_MS : pauseOf(answer, failures++);
    known.doing = { kind: "repeating", answer, until: clock.local() + pause };
    draw();
    await sleep(pause);
  }
}

function dropPass() {
  forgetPass(known.id, known.buyer);
  passing = null;
}

/** What a definite answer means for the page. */
async function settle(answer) {
  const { code, body } = answer;
  if (answer.status === 200 || answer.status === 201) {
    hold(body);
    if (body.state === "RETURNED") shared.set(keyPlace(), null);
  } else if (code === "USER_LIMIT" && body.grab_ids?.length) {
    for (const grabId of body.grab_ids) hold({ grab_id: grabId, round: 0, state: "GRANTED" });
  } else if (code === "SOLD_OUT") {
    known.soldOut = { round: currentRound()?.round, at: clock.now() };
    setTimeout(look, 200 + Math.random() * STALE_MS);
  } else if (["NOT_STARTED", "PAUSED", "ENDED", "OFFLINE"].includes(code)) {
    await look();
  } else if (code === "IDENTITY_INVALID") {
    dropPass();
    forget(known.buyer.token);
    known.buyer = null;
    if (page.demo === "1" && renewed) return; // what it gives is refused
    renewed = true;
    await identify(); // by a token that came meanwhile, or by one that the demo makes
  } else {
    known.refusal = answer;
  }
}

function hold(coupon) {
  known.coupons.put(coupon);
  follow(coupon);
}

function follow({ grab_id: grabId }) {
  const { id, buyer, coupons } = known;
  const newest = () => (known.buyer?.user === buyer.user ? known.buyer : buyer).token;
  const token = () => keptPass(id, buyer, clock.now()) ?? newest(); // a pass is cheaper to judge
  coupons.follow(grabId, token, () => {
    if (!coupons.held.length && !known.doing) shared.set(keyPlace(buyer), null); // given back: a new one is new
    draw();
  });
}

async function press() {
  const now = phase();
  if (now === "coupon" && mayHaveMore()) shared.set(keyPlace(), null);
  else if (now !== "open") return;
  await grab();
}

function mayHaveMore() {
  const round = currentRound();
  return known.state.status === "CLAIMABLE" && round !== null && round.left > 0
    && known.coupons.held.length < known.state.per_user;
}

// -- the page --------------------------------------------------------------------------------------

let soon = 0;

function draw() {
  const round = currentRound();
  show({ ...known, round, phase: phase(), more: known.coupons?.held.length ? mayHaveMore() : false });
  const left = (round?.opens ?? 0) - clock.now();
  if (left > 0 && left < TICK_MS * 2) { // the button is armed at the opening, not at a tick
    clearTimeout(soon);
    soon = setTimeout(draw, left + 1);
  }
}

async function start() {
  takeFragment();
  await speak(preferred());
  onLanguage(draw);
  document.getElementById("app").hidden = false;
  document.getElementById("grab").addEventListener("click", press);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  window.addEventListener("storage", ({ key: name }) => { if (name === known.coupons?.name) draw(); });
  listen(origins, heard);
  draw();
  setInterval(draw, TICK_MS);
  await look();
  identify();
  for (let i = 0; i < SAMPLES; i++) {
    await sleep(jittered(SAMPLE_PAUSE_MS, 1));
    await look();
  }
  keepLooking();
}

start();
