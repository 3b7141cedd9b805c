// The pass: asked for before the opening, with whatever proof the gateway wants, kept in the tab.

import { ask, isOpen, pauseOf, sleep } from "./ask.js";
import { device } from "./identity.js";
import { tab } from "./store.js";

const PROOFS_MAX = 3;
const SPARE_MS = 30_000;

const place = (campaign, buyer) => `pass.${campaign}.${buyer.user}`;

export function forgetPass(campaign, buyer) {
  tab.set(place(campaign, buyer), null);
}

/** The pass that this tab has and that is still good, or null. */
export function keptPass(campaign, buyer, now) {
  const kept = JSON.parse(tab.get(place(campaign, buyer)) || "null");
  return kept && Date.parse(kept.expires_at) > now + SPARE_MS ? kept.pass : null;
}

/**
 * {pass} or {refusal}: the gateway's definite no. `told` hears what takes time: "checking" with
 * true or false, "pause" with an answer and ms. `captcha` gives a promise of an answer, or null.
 */
export async function getPass({ campaign, buyer, now, claim, stamp, told, captcha }) {
  const kept = keptPass(campaign, buyer, now());
  if (kept) return { pass: kept };
  const headers = { Authorization: `Bearer ${buyer.token}`, "X-Device-Id": device() };
  if (claim) headers["X-Claim"] = claim;
  if (stamp) headers["X-Page-Stamp"] = stamp;
  for (let failures = 0, proofs = 0; ;) {
    const answer = await ask(`/v1/campaigns/${campaign}/passes`, { method: "POST", headers });
    if (answer.status === 201) {
      tab.set(place(campaign, buyer), JSON.stringify(answer.body));
      return { pass: answer.body.pass };
    }
    if (answer.code === "CHALLENGE_REQUIRED" && proofs++ < PROOFS_MAX) {
      const proof = await prove(answer.body.challenge, told, captcha);
      if (proof === null) return { refusal: answer };
      headers["X-Challenge-Answer"] = proof;
    } else if (isOpen(answer)) {
      const pause = pauseOf(answer, failures++);
      told("pause", answer, pause);
      await sleep(pause);
    } else {
      return { refusal: answer };
    }
  }
}

/** The answer to a challenge, null where this page can't give one. */
async function prove(challenge, told, captcha) {
  if (challenge.kind !== "work") return captcha(challenge);
  told("checking", true);
  try {
    return await new Promise((resolve) => {
      const worker = new Worker("/static/challenge-worker.js");
      const end = (answer) => { worker.terminate(); resolve(answer); };
      worker.onmessage = ({ data }) => end(data.answer);
      worker.onerror = () => end(null);
      worker.postMessage(challenge);
    });
  } finally {
    told("checking", false);
  }
}
