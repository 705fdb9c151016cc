// The details of one sensor: where it is mounted, when it was last seen, and how the last 24 hours went.

import { get } from "./api.js";
import { byId, clock, element, lasting, moment, number, write } from "./dom.js";
import { ageOf, unheard, wordOf } from "./grid.js";
import { troubleOf } from "./roster.js";

const SENSOR_MS = 5000;
const DAY_MS = 60000;
const SHOWN = 6;
const REFUSED = 20;

const detail = byId("detail");
const path = (id) => `/v1/dpus/${encodeURIComponent(id)}`;
const link = (text, href) => Object.assign(element("a", "", text), { href });

const QUIET = "It sends no heartbeats, so its silence means nothing. Set an offline threshold to be told when it goes silent.";
const NOT_LIVE = "Nothing has come from it live yet, only messages from before. Its silence counts from its first live message.";

export class Details {
  #id = null;
  #dpu = null;
  #doorway = null;
  #refused = [];
  #day = null;
  #readAt = 0;
  #dayAt = 0;

  // now: what time it is. space: one by its id.
  constructor({ now, space }) {
    Object.assign(this, { now, space });
  }

  get id() {
    return this.#id;
  }

  // Null: of none.
  show(id) {
    if (this.#id === id) return;
    this.#id = id;
    this.#dpu = this.#doorway = this.#day = null;
    this.#refused = [];
    detail.hidden = id === null;
    if (id === null) return;
    write(byId("name"), id);
    write(byId("where"), "");
    write(byId("fault"), "");
    byId("facts").replaceChildren();
    byId("day").hidden = byId("refused").hidden = true;
    byId("refused").open = false;
    this.refresh();
  }

  // It flipped.
  refresh() {
    this.#readAt = this.#dayAt = 0;
    this.tick();
  }

  // Once a second.
  tick() {
    if (this.#id === null || document.hidden) return;
    const now = Date.now();
    if (now >= this.#readAt + SENSOR_MS) {
      this.#readAt = now;
      this.#read(this.#id).catch((error) => {
        if (error.status) write(byId("fault"), error.message);
      });
    }
    if (now >= this.#dayAt + DAY_MS) {
      this.#dayAt = now;
      this.#readDay(this.#id).catch(() => {});
    }
    this.#render();
  }

  async #read(id) {
    const dpu = await get(path(id));
    const doorway = dpu.placement?.doorway ?? null;
    if (doorway !== (this.#doorway?.id ?? null) || id !== this.#dpu?.id) {
      const found = doorway && (await get(`/v1/doorways/${encodeURIComponent(doorway)}`));
      if (id !== this.#id) return;
      this.#doorway = found;
    }
    const refused = (await get(`/v1/rejected?dpu=${encodeURIComponent(id)}&limit=${REFUSED}`)).items;
    if (id !== this.#id) return;
    this.#dpu = dpu;
    this.#refused = refused;
    write(byId("fault"), "");
    this.#render();
  }

  async #readDay(id) {
    const day = await get(`${path(id)}/availability`);
    if (id !== this.#id) return;
    this.#day = day;
    this.#render();
  }

  // The zone of the space that it is placed at; that of the browser, where there is none.
  get #zone() {
    const sides = [this.#dpu?.placement?.mounted_in, ...(this.#doorway?.sides ?? [])];
    return sides.map((id) => this.space(id)).find(Boolean)?.effective_time_zone;
  }

  #render() {
    if (!this.#dpu) return;
    const { id, name, mac_address: mac, state, last_seen: seen, placement, cumulative_count: sum } = this.#dpu;
    const zone = this.#zone;
    const at = (instant) => moment(Date.parse(instant), zone);
    const spaceLink = (space) => (space ? link(this.space(space)?.name ?? space, `/#${encodeURIComponent(space)}`) : "the outside");
    write(byId("name"), name ?? id);
    write(byId("where"), seen ? `${wordOf(state)} · heard ${ageOf({ seen: Date.parse(seen) }, this.now())}` : wordOf(state));
    byId("where").className = `state ${state}`;
    const facts = [["Last heard from", seen ? at(seen) : unheard(state)], ["Id", id]];
    if (mac) facts.push(["MAC address", mac]);
    if (placement) {
      const sides = this.#doorway?.sides.flatMap((side, place) => (place ? [" – ", spaceLink(side)] : [spaceLink(side)])) ?? [];
      facts.push(["Doorway", this.#doorway?.name ?? placement.doorway], ["Between", ...sides], ["Mounted in", spaceLink(placement.mounted_in)], ["There since", at(placement.from)]);
    } else facts.push(["Doorway", "not installed at a doorway"]);
    facts.push(["Sum of its events", number(sum)]);
    if (state === "quiet") facts.push(["Quiet", this.#dpu.first_heard ? QUIET : NOT_LIVE]);
    const trouble = troubleOf(this.#dpu);
    if (trouble) facts.push(["Refused", trouble]);
    const [latest] = this.#refused;
    if (trouble && latest) facts.push(["The latest", `${at(latest.received_at)}: ${latest.detail}`]);
    const wanted = facts.map(([what, ...value]) => element("div", "", element("dt", "", what), element("dd", "", ...value)));
    const old = byId("facts");
    if (old.innerHTML !== wanted.map((fact) => fact.outerHTML).join("")) old.replaceChildren(...wanted);
    this.#renderRefused(at);
    this.#renderDay(zone);
  }

  // Only what is new: whoever reads or marks a line must not lose it.
  #renderRefused(at) {
    const box = byId("refused");
    box.hidden = this.#refused.length === 0;
    write(byId("refused-note"), this.#refused.length < REFUSED ? "Of the last 30 days." : `The latest ${REFUSED}.`);
    const rows = this.#refused.map(({ received_at: received, detail: why, timestamp, direction, sequence, body }) => {
      const said = body ?? `${timestamp} · direction ${direction} · sequence ${sequence}`;
      return element("li", "", element("p", "soft", `Received ${at(received)}`), element("p", "", why), element("code", "", said));
    });
    const old = byId("refusals");
    const isSame = rows.length === old.children.length && rows.every((row, place) => row.isEqualNode(old.children[place]));
    if (!isSame) old.replaceChildren(...rows);
  }

  #renderDay(zone) {
    byId("day").hidden = this.#day === null;
    if (!this.#day) return;
    const { availability, offline_seconds: offline, online_seconds: online, outages } = this.#day;
    const [from, to] = [Date.parse(this.#day.from), Date.parse(this.#day.to)];
    const count = outages.length === 1 ? "1 outage" : `${number(outages.length)} outages`;
    const percent = availability === 1 ? "100" : (Math.floor(availability * 1000) / 10).toFixed(1);
    const begun = to - (online + offline) * 1000;
    const known = begun > from + 1000 ? `, known for ${lasting(to - begun, true)}` : "";
    if (availability === null) write(byId("availability"), "Nothing was heard from it.");
    else write(byId("availability"), `${percent} % online${known} · ${outages.length ? `${count}, ${lasting(offline * 1000, true)} in all` : "no outage"}`);
    const part = (instant) => `${(100 * (instant - from)) / (to - from)}%`;
    const bar = byId("bar-day");
    const stretch = (kind, start, end) => {
      const made = element("span", kind);
      made.style.left = part(start);
      made.style.width = `max(2px, ${part(from + (end - start))})`;
      return made;
    };
    bar.replaceChildren(
      ...(availability === null ? [] : [stretch("online", Math.max(from, begun), to)]),
      ...outages.map((outage) => stretch("offline", Date.parse(outage.from), Date.parse(outage.until ?? this.#day.to))),
    );
    write(byId("from"), clock(from, zone));
    write(byId("until"), clock(to, zone));
    const rows = outages.slice(-SHOWN).reverse().map((outage) => {
      const [start, end] = [Date.parse(outage.from), Date.parse(outage.until)];
      return element("li", "", element("span", "", `${moment(start, zone)} – ${end >= to ? "now" : clock(end, zone)}`), element("span", "soft", lasting(end - start, true)));
    });
    byId("outages").replaceChildren(...rows);
  }
}
