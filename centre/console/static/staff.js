// Who is signed in, and what he may do: sign-in by a one-time link, buttons with confirmation.

const $ = (id) => document.getElementById(id);
const SIGNED = 'flashgrab-signed-in';
const view = new URLSearchParams(location.search).get('view') || '';
let csrf = '', link = ''; // the link stays here until somebody has judged it: the address bar has it no more

export const reading = view ? `&view=${encodeURIComponent(view)}` : '';

/** {name, role, may} of who looks; null where he has to sign in. */
export async function whoLooks() {
  const hash = location.hash.slice(1);
  if (hash.length > 20) link = hash; // else one of the page's own places
  if (link) history.replaceState(null, '', '/ops');
  if (view && !link) return { name: 'read-only link', role: '', may: [] };
  if (!link && !localStorage.getItem(SIGNED)) return null;
  return session(link ? 'POST' : 'GET', link ? { link } : undefined);
}

export async function session(method, body) {
  const headers = { 'Content-Type': 'application/json', 'X-CSRF-Token': csrf };
  const answer = await fetch('/ops/session', { method, headers, body: body && JSON.stringify(body) });
  if (answer.status >= 500) throw new Error(`the centre answers ${answer.status}`);
  link = '';
  const told = await answer.json();
  csrf = told.csrf || '';
  if (csrf) localStorage.setItem(SIGNED, '1'); else localStorage.removeItem(SIGNED);
  return csrf ? told : null;
}

const freshKey = () => (crypto.randomUUID ? crypto.randomUUID() : `${Date.now()}-${Math.random().toString(16).slice(2)}`);

async function write(path, body, key) {
  for (let tries = 0; ; tries++) {
    let answer;
    try {
      answer = await fetch(path, {
        method: 'POST', body: JSON.stringify(body || {}),
        headers: { 'Content-Type': 'application/json', 'X-CSRF-Token': csrf, 'Idempotency-Key': key },
      });
    } catch (error) {
      if (tries > 2) throw error;
    }
    if (answer && (answer.status !== 503 || tries > 2)) return [answer.status, await answer.json()];
    await new Promise((done) => { setTimeout(done, 1000); });
  }
}

const UNKNOWN = 'It may have been done: press again here, and it is done once.';
const ACTIONS = {
  pause: ['Pause', 'Nobody is granted a coupon until you resume. Who asks again for a coupon he has, gets it.'],
  resume: ['Resume', 'Grabs are granted again at once.'],
  restock: ['Restock', 'The quota of a round grows. It can not be made smaller again.'],
  close: ['Close', 'The campaign ends for good. It can not be opened again.'],
};

/** Buttons for what this person may do; `campaign()` is the one that is looked at. */
export function showActions(may, campaign) {
  const box = $('actions');
  box.textContent = '';
  for (const action of ['pause', 'resume', 'restock', 'close'].filter((one) => may.includes(one))) {
    const button = document.createElement('button');
    button.id = `do-${action}`;
    button.dataset.action = action;
    button.textContent = ACTIONS[action][0];
    if (action === 'close') button.className = 'danger';
    button.onclick = () => ask(action, campaign());
    box.append(button);
  }
}

/** Only what makes sense in this status. */
export function offer(campaign) {
  const status = campaign ? campaign.status : '';
  for (const button of $('actions').children) {
    const { action } = button.dataset;
    button.disabled = !campaign || status === 'OFFLINE' || (action === 'pause' && status === 'PAUSED') || (action === 'resume' && status !== 'PAUSED');
  }
}

function field(label, kind = 'input') {
  const box = document.createElement('label'), input = document.createElement(kind);
  box.append(`${label} `, input);
  $('d-fields').append(box);
  return input;
}

function open(title, words) {
  $('d-title').textContent = title;
  $('d-words').textContent = words;
  $('d-fields').textContent = $('d-said').textContent = '';
  $('d-yes').hidden = false;
  $('d-yes').disabled = false;
  $('d-no').textContent = 'Cancel';
  $('d-no').onclick = () => $('dialog').close();
  $('dialog').showModal();
}

function ask(action, campaign) {
  if (!campaign) return;
  const [verb, words] = ACTIONS[action];
  open(`${verb} ${campaign.id}?`, words);
  $('d-yes').textContent = verb;
  let body = () => ({}), isSure = () => true;
  if (action === 'restock') {
    const round = field('Round', 'select');
    for (const one of campaign.rounds) round.add(new Option(`${one.round}: quota ${one.quota}`, one.round));
    const add = field('Coupons more'), again = field('The same number once more');
    for (const input of [add, again]) { input.inputMode = 'numeric'; input.autocomplete = 'off'; }
    isSure = () => /^[1-9][0-9]{0,8}$/.test(add.value) && add.value === again.value;
    body = () => ({ round: Number(round.value), add: Number(add.value) });
    add.id = 'd-add'; again.id = 'd-again';
  } else if (action === 'close') {
    const typed = field(`Type ${campaign.id} to confirm`);
    typed.id = 'd-typed'; typed.autocomplete = 'off';
    isSure = () => typed.value === campaign.id;
  }
  let key = '', meant = ''; // pressed again for the same, it is the same operation: the first may have been done
  const check = () => { $('d-yes').disabled = !isSure(); };
  $('d-fields').oninput = check;
  check();
  $('d-yes').onclick = async () => {
    if (!isSure()) return;
    $('d-yes').disabled = true;
    $('d-said').textContent = '…';
    if (meant !== JSON.stringify(body())) [key, meant] = [freshKey(), JSON.stringify(body())];
    try {
      const [status, told] = await write(`/v1/campaigns/${campaign.id}/${action}`, body(), key);
      const done = status < 300;
      $('d-said').textContent = done ? `Done${told.applied ? '' : `, but not in force yet: ${told.trouble}`}.` : told.detail || told.title;
      if (status >= 500) $('d-said').textContent += ` ${UNKNOWN}`;
      if (done) { $('d-yes').hidden = true; $('d-no').textContent = 'Close'; } else check();
    } catch {
      $('d-said').textContent = `The centre does not answer. ${UNKNOWN}`;
      check();
    }
  };
}

/** A dialog with a read-only link. */
export async function share() {
  open('Read-only link', 'Whoever has it sees this console and can change nothing.');
  $('d-yes').hidden = true;
  $('d-no').textContent = 'Close';
  const [status, told] = await write('/v1/view-links', {}, freshKey());
  if (status !== 201) { $('d-said').textContent = told.detail || told.title; return; }
  const link = field('Link');
  link.readOnly = true;
  link.id = 'd-link';
  link.value = told.url || location.origin + told.path;
  link.select();
  $('d-said').textContent = `Good until ${new Date(told.expires_at).toLocaleString('en-GB')}.`;
  try { await navigator.clipboard.writeText(link.value); $('d-said').textContent += ' Copied.'; } catch { /* he copies it */ }
}
