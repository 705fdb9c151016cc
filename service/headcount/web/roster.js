// The sensors of one space or all, as far as the service knows them: read as a whole every few seconds, which also
// brings new ones, and flip by flip from the stream.

import { getUnless } from "./api.js";
import { number } from "./dom.js";

const SHORTEST_MS = 5000;
const SOON_MS = 200;
// Reading takes a twentieth of the time at most: a list of ten thousand is read less often, and from a busy service too.
const SPARING = 20;
// Less than that is how long the answer took, not how wrong the clock is.
const SKEW_MS = 2000;

const CLOCKS = { ahead: "clock is ahead", unset: "clock not set", behind: "clock is years behind", stuck: "clock stands still" };

// What keeps events of a sensor from being counted, in words; empty: nothing.
export function troubleOf({ clock, rejected_last_day: refused }) {
  const many = refused === 1 ? "1 event refused" : refused ? `${number(refused)} events refused` : "";
  return [CLOCKS[clock], many].filter(Boolean).join(", ");
}

export class Roster {
  #path = "/sensors";
  #sensors = new Map();
  #tag = null;
  #flipped = new Map();
  #reading = null;
  #timer = null;
  #due = 0;
  #took = 0;
  #skew = 0;

  // onChange: something is another than before. onFlip: a sensor, and the state that it was in.
  constructor({ onChange, onFlip }) {
    Object.assign(this, { onChange, onFlip });
    document.addEventListener("visibilitychange", () => document.hidden || this.#schedule(this.#due - Date.now()));
  }

  get all() {
    return this.#sensors.values();
  }

  find(id) {
    return this.#sensors.get(id);
  }

  // What the clock of the service says: that of a phone may be minutes off, and nobody notices.
  now() {
    return Date.now() + this.#skew;
  }

  // Of this space and those below it; null: of all. What is read already belongs to another list then.
  of(space) {
    this.#path = space === null ? "/sensors" : `/sensors?space=${encodeURIComponent(space)}`;
    this.#tag = this.#reading = null;
  }

  // The list anew. Throws what the service says against it.
  async read() {
    clearTimeout(this.#timer);
    const path = this.#path;
    const begun = performance.now();
    this.#flipped.clear();
    const reading = getUnless(this.#tag, path);
    this.#reading = reading;
    try {
      const { body, headers } = await reading;
      if (this.#reading !== reading) return;
      const skew = Date.parse(headers.get("Date")) - Date.now();
      this.#skew = Math.abs(skew) > SKEW_MS ? skew : 0;
      this.#tag = headers.get("ETag");
      if (body) this.#take(body);
    } finally {
      this.#took = performance.now() - begun;
      if (this.#path === path) this.#schedule(Math.max(SHORTEST_MS, SPARING * this.#took));
    }
  }

  // A flip, as the stream tells it. False: of a sensor that is not in the list.
  turn({ dpu, state, last_seen, at }) {
    const sensor = this.#sensors.get(dpu);
    // A list that is being read may be older than this.
    this.#flipped.set(dpu, { state, last_seen, since: at });
    if (!sensor) return false;
    this.#put(sensor, this.#flipped.get(dpu));
    this.onChange();
    return true;
  }

  // There is something new that only the list tells.
  hurry() {
    const soon = Math.max(SOON_MS, 4 * this.#took);
    if (this.#due - Date.now() > soon) this.#schedule(soon);
  }

  #schedule(milliseconds) {
    clearTimeout(this.#timer);
    this.#due = Date.now() + milliseconds;
    if (document.hidden) return;
    this.#timer = setTimeout(() => this.read().catch(() => {}), milliseconds);
  }

  #take(list) {
    const old = this.#sensors;
    this.#sensors = new Map();
    for (const fresh of list) {
      const { id, name, mac_address: mac, space } = fresh;
      let sensor = old.get(id);
      if (!sensor || sensor.name !== name || sensor.mac !== mac || sensor.space !== space) {
        // Numbers in ids are ordered as numbers.
        const order = id.replace(/\d+/g, (digits) => digits.padStart(12, "0"));
        sensor = { id, name, mac, space, label: name ?? id, order, state: sensor?.state };
      }
      sensor.trouble = troubleOf(fresh);
      this.#sensors.set(id, sensor);
      this.#put(sensor, this.#flipped.get(id) ?? fresh);
    }
    this.onChange();
  }

  #put(sensor, { state, last_seen: seen, since }) {
    const before = sensor.state;
    sensor.state = state;
    sensor.seen = seen && Date.parse(seen);
    sensor.since = since && Date.parse(since);
    if (!before || before === state) return;
    sensor.flipped = performance.now();
    this.onFlip(sensor, before);
  }
}
