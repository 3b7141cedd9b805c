// In your own backend, never in a browser: is this coupon this user's?
const { SHOP_TOKEN, USER_ID, GRAB_ID = '@CAMPAIGN@-1' } = process.env;
const headers = { Authorization: `Bearer ${SHOP_TOKEN}` };

async function isTheirs(user, grab) {
  const answer = await fetch(`@BASE@/v1/grabs/${grab}?user=${user}`, { headers });
  if (answer.status === 404) return false; // none, or somebody else's
  if (!answer.ok) throw new Error(await answer.text()); // 429 and 503: again after retry_after_ms
  return (await answer.json()).state !== 'RETURNED';
}

console.log(await isTheirs(USER_ID, GRAB_ID));
const all = await fetch(`@BASE@/v1/grabs?user=${USER_ID}&campaign=@CAMPAIGN@`, { headers });
console.log(JSON.stringify(await all.json()));
