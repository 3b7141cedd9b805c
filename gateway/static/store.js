// Small texts that outlive a reload; in memory only where the browser forbids to keep any, or is full.

function over(pick) {
  const spare = new Map();
  return {
    get(name) {
      if (spare.has(name)) return spare.get(name);
      try {
        return pick().getItem(`flashgrab.${name}`);
      } catch {
        return null;
      }
    },
    set(name, text) {
      try {
        if (text === null) pick().removeItem(`flashgrab.${name}`);
        else pick().setItem(`flashgrab.${name}`, text);
        spare.delete(name);
      } catch {
        spare.set(name, text);
      }
    },
  };
}

/** Of this browser: all its tabs. */
export const shared = over(() => localStorage);

/** Of this tab. */
export const tab = over(() => sessionStorage);

/** 128 random bits, as an id or as an idempotency key. */
export function random() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
