// The week of one site, a strip a day: when it was open, up and down, and its polls.

import { get } from "./api.js";
import { byId, element, number, write } from "./dom.js";

const SHOWN = 12;
// How wide a strip is, as in reports.html, and how high its bar; it is stretched to the width that there is.
const WIDTH = 1440;
const BAR = 15;

const detail = byId("detail");

export class Timeline {
  #id = null;
  #to = null;
  #row = null;
  #sums = null;

  // Of a site up to an instant (null: the latest poll), and what the report says of it. Null: of none.
  show(id, to = null, row = null) {
    this.#row = row;
    this.#compare();
    if (this.#id === id && this.#to === to) return;
    const isOther = this.#id !== id;
    this.#id = id;
    this.#to = to;
    detail.hidden = id === null;
    if (isOther) {
      write(byId("name"), id ?? "");
      for (const part of ["period", "sums", "fault"]) write(byId(part), "");
      byId("week").hidden = byId("times").hidden = true;
    }
    if (id !== null) this.#read();
  }

  get id() {
    return this.#id;
  }

  // Anew, where it could not be read before.
  retry() {
    if (this.#id !== null && this.#sums === null) this.#read();
  }

  // Polls that came late, and other opening hours, change what is known, and no report.
  #compare() {
    const isSame = !this.#row || !this.#sums || Math.hypot(this.#sums[0] - this.#row.weekUp, this.#sums[1] - this.#row.weekDown) < 0.02;
    write(byId("changed"), isSame ? "" : "So it is known now. The report was made before that, and says something else.");
  }

  async #read() {
    this.#sums = null;
    const [id, to] = [this.#id, this.#to];
    const isWanted = () => this.#id === id && this.#to === to;
    const path = `/v1/spaces/${encodeURIComponent(id)}`;
    try {
      const [space, timeline] = await Promise.all([get(path), get(`${path}/uptime/timeline${to ? `?to=${encodeURIComponent(to)}` : ""}`)]);
      if (isWanted()) this.#render(space, timeline);
    } catch (error) {
      if (isWanted()) write(byId("fault"), error.message);
    }
  }

  #render(space, timeline) {
    const { time_zone: zone, up, down, days, open, polls, poll_count: count, polled } = timeline;
    write(byId("name"), space.name ?? space.id);
    write(byId("fault"), "");
    const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", timeZone: zone });
    write(byId("period"), `${space.name ? `${space.id} · ` : ""}${day.formatRange(Date.parse(timeline.from), Date.parse(timeline.to))} · ${zone}`);
    const sum = (field) => days.reduce((total, one) => total + one[field], 0);
    const [isUp, isDown] = [sum("uptime_seconds"), sum("downtime_seconds")];
    const hours = (seconds) => `${(seconds / 3600).toFixed(2)} h`;
    if (!polled) write(byId("sums"), `Never polled: nobody can say whether it was up. Its ${hours(isDown)} of opening hours are down in the report.`);
    else if (open.length) write(byId("sums"), `${hours(isUp)} up and ${hours(isDown)} down`);
    else write(byId("sums"), "It was closed all the time.");
    byId("week").hidden = !polled;
    byId("days").replaceChildren(byId("days").firstElementChild, ...days.map((one) => makeDay(one, timeline)));
    const ignored = polls.filter((poll) => !poll.in_opening_hours).length;
    const words = [count === 1 ? "1 poll" : `${number(count)} polls`];
    if (polls.length < count) words.push(`the newest ${number(polls.length)} are shown`);
    if (ignored) words.push(`${number(ignored)} while it was closed, which ${ignored === 1 ? "does" : "do"} not count`);
    if (polls.length === ignored && up.length) words.push("its status is that of the latest one before");
    write(byId("polls"), `${words.join("; ")}.`);
    this.#sums = [isUp / 3600, isDown / 3600];
    this.#compare();
    byId("times").hidden = !polled || !down.length;
    const newest = down.slice(-SHOWN).reverse();
    const rows = newest.map(({ start, end }) => element("li", "", element("span", "", between(start, end, zone)), element("span", "soft", lengthOf((Date.parse(end) - Date.parse(start)) / 1000))));
    if (down.length > SHOWN) rows.push(element("li", "soft", `and ${number(down.length - SHOWN)} times before`));
    byId("outages").replaceChildren(...rows);
  }
}

function lengthOf(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (seconds > 0 && minutes < 1) return "under a minute";
  const [hours, rest] = [Math.floor(minutes / 60), minutes % 60];
  return [hours && `${number(hours)}\u00a0h`, (rest || !hours) && `${rest}\u00a0min`].filter(Boolean).join("\u00a0");
}

function between(start, end, zone) {
  const format = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", timeZone: zone });
  return format.formatRange(Date.parse(start), Date.parse(end));
}

// A day: its name, its strip and, in words, how it was.
function makeDay(day, { time_zone: zone, from, to, open, up, down, polls }) {
  const [start, end] = [Date.parse(day.start), Date.parse(day.end)];
  const strip = byId("strip").content.firstElementChild.cloneNode();
  const shape = (tag, attributes, ...content) => {
    const made = document.createElementNS(strip.namespaceURI, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...content);
    return made;
  };
  const place = (instant) => (WIDTH * (Math.min(Math.max(Date.parse(instant), start), end) - start)) / (end - start);
  const add = (className, stretches, y, height) => {
    for (const stretch of stretches) {
      if (Date.parse(stretch.start) >= end || Date.parse(stretch.end) <= start) continue;
      const x = place(stretch.start);
      const rect = shape("rect", { class: className, x, y, width: place(stretch.end) - x, height });
      rect.append(shape("title", {}, `${className} ${between(stretch.start, stretch.end, zone)}`));
      strip.append(rect);
    }
  };
  add("closed", [{ start: from, end: to }], 4, BAR - 4);
  add("up", up, 4, BAR - 4);
  add("down", down, 0, BAR);
  // One path for all of a kind, however many: above those that were active, below the others.
  const kinds = new Map();
  for (const poll of polls) {
    const at = Date.parse(poll.timestamp);
    if (at < start || at >= end) continue;
    const kind = `${poll.status}${poll.in_opening_hours ? "" : " ignored"}`;
    kinds.set(kind, `${kinds.get(kind) ?? ""}M${place(poll.timestamp).toFixed(1)} ${poll.status === "active" ? BAR + 1 : BAR + 6}v5`);
  }
  for (const [kind, path] of kinds) strip.append(shape("path", { class: `poll ${kind}`, d: path }));
  const isOpen = open.some((stretch) => Date.parse(stretch.start) < end && Date.parse(stretch.end) > start);
  const hours = Math.round((end - start) / 36e5);
  const name = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", timeZone: zone }).format(start);
  const words = !isOpen ? "closed" : day.downtime_seconds ? `${lengthOf(day.downtime_seconds)} down` : "up";
  return element("li", "", element("span", "date", hours === 24 ? name : `${name} (${hours} h)`), " ", strip, " ", element("span", `words ${day.downtime_seconds ? "bad" : "soft"}`, words));
}
