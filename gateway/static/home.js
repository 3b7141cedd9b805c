// The first page: the list is there already; this adds how each campaign stands, in the reader's
// language and time.

import { ask } from "./ask.js";
import { moment, offer, onLanguage, preferred, say, speak } from "./words.js";

let campaigns = [];

function draw() {
  const now = Date.now();
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

await speak(preferred());
onLanguage(draw);
const answer = await ask("/v1/campaigns");
if (answer.status === 200) campaigns = answer.body.campaigns;
draw();
