// Who the buyer is: by the shop's identity token, which comes in the fragment of the address or by
// postMessage from a page of the shop that opened this one; in the demo by a name made here.

import { ask } from "./ask.js";
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
  const known = read(tab.get(TOKEN));
  if (known || !demo) return known;
  const name = shared.get("demo_user") || `demo-${random().slice(0, 8)}`;
  shared.set("demo_user", name);
  const answer = await ask("/demo/identity", {
    method: "POST", body: JSON.stringify({ user_id: name }),
    headers: { "Content-Type": "application/json" },
  });
  if (answer.status !== 201) return null;
  tab.set(TOKEN, answer.body.token);
  return read(answer.body.token);
}

export function forget() {
  tab.set(TOKEN, null);
}

/** What the token says of itself; whether that is true only the gateway can judge. */
function read(token) {
  try {
    const payload = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    const claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(payload), (c) => c.charCodeAt(0))));
    const over = claims.exp * 1000 < Date.now() - 60_000; // the device's clock may be a little wrong
    return typeof claims.sub === "string" && !over ? { token, user: claims.sub } : null;
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
