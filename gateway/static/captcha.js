// A captcha: only a page of the shop that opened this one can show it. It is told the site key, and
// sends the answer.

const WITHIN_MS = 120_000;
const LOOK_MS = 500;

let hear = () => {};

/** An answer has come. */
export function heardCaptcha(answer) {
  hear(answer);
}

/** The answer; null where nobody is there to give one, the other page is closed, or says nothing. */
export async function askCaptcha(siteKey, opener = window.opener, withinMs = WITHIN_MS) {
  if (!opener || opener.closed) return null;
  opener.postMessage({ flashgrab: "captcha", site_key: siteKey }, "*");
  let late, look;
  const answer = await new Promise((resolve) => {
    hear = resolve;
    late = setTimeout(resolve, withinMs, null);
    look = setInterval(() => { if (opener.closed) resolve(null); }, LOOK_MS);
  });
  clearTimeout(late);
  clearInterval(look);
  hear = () => {};
  return answer;
}
