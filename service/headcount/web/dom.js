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

// Time of day, with the day where that is not today, and the year where that is another one.
export function moment(instant, timeZone) {
  const part = (at, parts) => new Intl.DateTimeFormat("en-GB", { ...parts, timeZone }).format(at);
  const isThisYear = part(instant, { year: "numeric" }) === part(Date.now(), { year: "numeric" });
  const day = (at) => part(at, { day: "numeric", month: "short", ...(!isThisYear && { year: "numeric" }) });
  return day(instant) === day(Date.now()) ? `${clock(instant, timeZone)} today` : `${day(instant)}, ${clock(instant, timeZone)}`;
}

// A length of time, as coarse as people say it, or to the minute.
export function lasting(milliseconds, withMinutes = false) {
  const minutes = Math.floor(milliseconds / 60000);
  if (minutes < 1) return "under a minute";
  if (minutes < 60) return `${minutes} min`;
  if (withMinutes && minutes % 60) return `${number(Math.floor(minutes / 60))} h ${minutes % 60} min`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h`;
  return `${number(Math.floor(minutes / 60 / 24))} days`;
}

export const signed = (number) => (number < 0 ? `−${-number}` : `+${number}`);
export const number = (value) => value.toLocaleString("en");
export const people = (count) => (count === 1 ? "1 person" : `${number(count)} people`);
