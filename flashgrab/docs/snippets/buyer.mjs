const BASE = '@BASE@';
const CAMPAIGN = '@CAMPAIGN@';
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
@LOGIN@

// 1. A pass: once for each buyer, before the opening. Nothing is stored for it.
const issued = await fetch(`${BASE}/v1/campaigns/${CAMPAIGN}/passes`, {
  method: 'POST',
  headers: { Authorization: `Bearer ${token}` },
});
if (!issued.ok) throw new Error(await issued.text());
const buyer = { Authorization: `Bearer ${(await issued.json()).pass}` };

// The answer that stays. No answer, 429, 503 and what opens later are asked again, with the same
// key: so repeats never get a second coupon.
async function grab(key, tries = 8) {
  for (let n = 0; n < tries; n += 1) {
    let answer;
    try {
      answer = await fetch(`${BASE}/v1/campaigns/${CAMPAIGN}/grabs`, {
        method: 'POST',
        headers: { ...buyer, 'Idempotency-Key': key },
      });
    } catch {
      await sleep(1000);
      continue;
    }
    const body = await answer.json();
    const again = [429, 503].includes(answer.status) || ['NOT_STARTED', 'PAUSED'].includes(body.code);
    if (!again) return body;
    await sleep(body.retry_after_ms);
  }
  throw new Error('no answer that stays');
}

// 2. The grab, and 3. the same key again: the same grab, with "replayed": true.
const key = crypto.randomUUID();
const won = await grab(key);
console.log(JSON.stringify(won));
console.log(JSON.stringify(await grab(key)));

// 4. What became of it: GRANTED, then PERSISTED. Only its owner may look.
if (won.grab_id) {
  const shown = await fetch(`${BASE}/v1/grabs/${won.grab_id}`, { headers: buyer });
  console.log(JSON.stringify(await shown.json()));
}

// 5. A refusal is a problem: look at "code"; "type" is a page that explains it.
console.log(JSON.stringify(await grab(crypto.randomUUID())));
