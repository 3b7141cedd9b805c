// The first page: the list is there already; this adds how each campaign stands, in the reader's
// language and time, and goes on looking.

import { ask, jittered, sleep } from "./ask.js";
import { ServerClock } from "./clock.js";
import { moment, offer, onLanguage, preferred, say, speak } from "./words.js";

const LOOK_MS = 10_000;
const HIDDEN_TIMES = 3; // as seldom, where nobody sees it

const clock = new ServerClock();
let campaigns = [];

async function look() {
  const sent = clock.local();
  const answer = await ask("/v1/campaigns");
  if (answer.status !== 200) return;
  clock.take(sent, clock.local(), Date.parse(answer.body.server_time));
  campaigns = answer.body.campaigns;
  draw();
}

function draw() {
  const now = clock.now();
  for (const { campaign_id: id, status, rounds, rule } of campaigns) {
    const row = document.querySelector(`[data-campaign="${CSS.escape(id)}"]`);
    if (!row) continue;
    const next = rounds.find((round) => Date.parse(round.closes_at) > now) ?? rounds.at(-1);
    const words = {
      NOT_STARTED: () => say("waiting.when", { time: moment(Date.parse(next.opens_at)) }),
      CLAIMABLE: () => say("open.title"),
    };
    row.dataset.status = status;
    row.querySelector("span").textContent = offer(rule);
    row.querySelector(".status").textContent = (words[status] ?? (() => say(status)))();
  }
}

async function start() {
  await speak(preferred());
  onLanguage(draw);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  for (;;) {
    await look();
    await sleep(jittered(LOOK_MS, 0.5) * (document.hidden ? HIDDEN_TIMES : 1));
  }
}

start();
