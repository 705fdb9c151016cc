// Small things that every part of the page needs.

export const byId = (id) => document.getElementById(id);

// Everything that comes from the service goes in as text, never as HTML.
export function element(tag, className, ...content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...content);
  return made;
}

// Writes only what is new: what stays the same is not read out again, nor painted.
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const formats = new Map();

// Local time of a space, to the minute or the second.
export function clock(instant, timeZone, withSeconds = false) {
  const key = `${timeZone} ${withSeconds}`;
  if (!formats.has(key)) {
    const seconds = withSeconds ? { second: "2-digit" } : {};
    formats.set(key, new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", ...seconds, timeZone }));
  }
  return formats.get(key).format(instant);
}

export const signed = (number) => (number < 0 ? `−${-number}` : `+${number}`);
export const number = (value) => value.toLocaleString("en");
export const people = (count) => (count === 1 ? "1 person" : `${number(count)} people`);
