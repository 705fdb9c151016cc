// Who passed the outer doorways of one space, newest first.

import { get } from "./api.js";
import { byId, clock, element, number, signed, write } from "./dom.js";

const LOOK_BACK_MS = 15 * 60 * 1000;
const OVERLAP_MS = 60 * 1000;
const SHORTEST_MS = 1000;
const SHOWN = 24;

const rows = byId("movement");

export class Movement {
  #space = null;
  #zone = "UTC";
  #seen = new Map();
  #doorways = new Map();
  #newest = 0;
  #requestedAt = 0;
  #timer = null;
  #running = false;

  async show(space) {
    this.#space = space.id;
    this.#zone = space.effective_time_zone;
    this.#seen = new Map();
    this.#doorways = new Map();
    this.#newest = 0;
    rows.replaceChildren();
    this.#note();
    await this.#look();
  }

  // Something happened. However often it does, it looks once a second.
  hurry() {
    if (this.#timer || !this.#space) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#look().catch(() => {});
    }, Math.max(0, this.#requestedAt + SHORTEST_MS - Date.now()));
  }

  // Forgets what is too old to be movement.
  tidy() {
    const oldest = Date.now() - LOOK_BACK_MS;
    for (const [key, event] of this.#seen) if (event.at < oldest) this.#seen.delete(key);
    while (rows.lastElementChild && Number(rows.lastElementChild.dataset.at) < oldest) rows.lastElementChild.remove();
    this.#note();
  }

  async #look() {
    if (this.#running) return this.hurry();
    this.#running = true;
    this.#requestedAt = Date.now();
    try {
      const space = this.#space;
      const from = new Date(this.#newest ? this.#newest - OVERLAP_MS : Date.now() - LOOK_BACK_MS);
      const found = [];
      for (let after = ""; after !== null && this.#space === space;) {
        const page = await get(`/v1/events?space=${encodeURIComponent(space)}&from=${from.toISOString()}&limit=1000${after && `&after=${encodeURIComponent(after)}`}`);
        found.push(...page.items);
        after = page.next;
      }
      const fresh = found.filter((event) => event.sign && event.direction && !this.#seen.has(keyOf(event)));
      const shown = fresh.slice(-SHOWN);
      const doorways = await Promise.all(shown.map((event) => this.#doorway(event.dpu)));
      if (this.#space !== space) return;
      for (const event of fresh) this.#seen.set(keyOf(event), { at: Date.parse(event.timestamp), change: event.sign * event.direction });
      shown.forEach((event, place) => this.#insert(event, doorways[place]));
      while (rows.children.length > SHOWN) rows.lastElementChild.remove();
      this.tidy();
    } finally {
      this.#running = false;
    }
  }

  #insert(event, doorway) {
    const at = Date.parse(event.timestamp);
    const change = event.sign * event.direction;
    this.#newest = Math.max(this.#newest, at);
    const time = element("time", "", clock(at, this.#zone, true));
    time.dateTime = event.timestamp;
    const row = element("li", change > 0 ? "in" : "out", element("span", "change", signed(change)), element("span", "way", `${change > 0 ? "in" : "out"} · ${doorway}`), time);
    row.dataset.at = at;
    const older = [...rows.children].find((other) => Number(other.dataset.at) <= at);
    rows.insertBefore(row, older ?? null);
  }

  // The name of the doorway above which a DPU is placed.
  #doorway(dpu) {
    if (!this.#doorways.has(dpu)) this.#doorways.set(dpu, findDoorway(dpu).catch(() => dpu));
    return this.#doorways.get(dpu);
  }

  #note() {
    byId("quiet").hidden = rows.children.length > 0;
    let entries = 0;
    let exits = 0;
    for (const { change } of this.#seen.values()) {
      if (change > 0) entries += change;
      else exits -= change;
    }
    write(byId("pace"), entries + exits ? `${number(entries)} in, ${number(exits)} out in 15 min` : "");
  }
}

const keyOf = (event) => `${event.dpu} ${event.timestamp} ${event.sequence}`;

async function findDoorway(id) {
  const dpu = await get(`/v1/dpus/${encodeURIComponent(id)}`);
  if (!dpu.placement) return dpu.name ?? id;
  const doorway = await get(`/v1/doorways/${encodeURIComponent(dpu.placement.doorway)}`);
  return doorway.name ?? doorway.id;
}
