// A calendar file (RFC 5545) of one event, made here and saved by the browser.

const LINE_BYTES = 73;

export function ics({ uid, title, text, from, to, url, now = Date.now() }) {
  const lines = [
    "BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Flashgrab//EN", "BEGIN:VEVENT",
    `UID:${plain(uid)}@flashgrab`, `DTSTAMP:${stamp(now)}`, `DTSTART:${stamp(from)}`,
    `DTEND:${stamp(to)}`, `SUMMARY:${plain(title)}`, `DESCRIPTION:${plain(text)}`, `URL:${url}`,
    "BEGIN:VALARM", "ACTION:DISPLAY", `DESCRIPTION:${plain(title)}`, "TRIGGER:-PT5M", "END:VALARM",
    "END:VEVENT", "END:VCALENDAR",
  ];
  return lines.map(folded).join("\r\n") + "\r\n";
}

function stamp(ms) {
  return new Date(ms).toISOString().replace(/[-:]|\.\d+/g, "");
}

function plain(text) {
  return text.replace(/[\\;,]/g, "\\$&").replace(/\r?\n/g, "\\n");
}

/** Long lines go on in the next one, after a blank; never inside a character. */
function folded(line) {
  const encoder = new TextEncoder();
  const parts = [""];
  let bytes = 0;
  for (const character of line) {
    const size = encoder.encode(character).length;
    if (bytes + size > LINE_BYTES) {
      parts.push("");
      bytes = 0;
    }
    parts[parts.length - 1] += character;
    bytes += size;
  }
  return parts.join("\r\n ");
}

export function save(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/calendar" }));
  link.download = `${name}.ics`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
