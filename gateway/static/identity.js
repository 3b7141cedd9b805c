// Who the buyer is: by the shop's identity token, which comes in the fragment of the address or by
// postMessage from a page of the shop that opened this one; in the demo by a name made here.

import { ask, isOpen, pauseOf, sleep } from "./ask.js";
import { random, shared, tab } from "./store.js";

const TOKEN = "identity";

/** The fragment's token, out of the address bar at once; a link's claim stays in the address. */
export function takeFragment() {
  const given = new URLSearchParams(location.hash.slice(1)).get("identity");
  if (given === null) return;
  tab.set(TOKEN, given);
  history.replaceState(null, "", location.pathname + location.search);
}

/** Ask the page that opened this one, and listen; only origins that the gateway lists count. */
export function listen(origins, heard) {
  window.addEventListener("message", ({ origin, source, data }) => {
    if (source === null || source !== window.opener || !origins.includes(origin)) return;
    if (data && typeof data.flashgrab === "object" && data.flashgrab !== null) heard(data.flashgrab);
  });
  if (window.opener && origins.length) window.opener.postMessage({ flashgrab: "ready" }, "*");
}

export function keep(token) {
  tab.set(TOKEN, token);
}

/** Token and user, or null: nobody is signed in. */
export async function whoIsIt(demo) {
  const name = shared.get("demo_user") || `demo-${random().slice(0, 8)}`;
  for (let failures = 0; ;) {
    const known = read(tab.get(TOKEN));
    if (known || !demo) return known;
    shared.set("demo_user", name);
    const answer = await ask("/demo/identity", {
      method: "POST", body: JSON.stringify({ user_id: name }),
      headers: { "Content-Type": "application/json" },
    });
    if (answer.status === 201) tab.set(TOKEN, answer.body.token);
    if (!isOpen(answer)) return read(answer.body.token);
    await sleep(pauseOf(answer, failures++));
  }
}

/** This token was refused; one that came since stays. */
export function forget(token) {
  if (tab.get(TOKEN) === token) tab.set(TOKEN, null);
}

/** What the token says of itself. Whether that is true, and whether it is over, only the gateway can
    judge: this device's clock may be wrong, and what is kept (pass, coupons) serves without it. */
function read(token) {
  try {
    const payload = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    const claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(payload), (c) => c.charCodeAt(0))));
    return typeof claims.sub === "string" ? { token, user: claims.sub } : null;
  } catch {
    return null;
  }
}

/** This browser, for campaigns that limit devices. */
export function device() {
  const known = shared.get("device") || random();
  shared.set("device", known);
  return known;
}
