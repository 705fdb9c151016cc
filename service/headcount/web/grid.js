// Sensors in groups, however many: in the document is only what is in view, and a little more.

import { byId, element, lasting, number, write } from "./dom.js";

// In rem, as in sensors.css: a row of tiles, the heading of a group, and the least width of a tile.
const ROW = 4;
const HEADING = 2.5;
const WIDTH = 17;
// Beyond the edges of the window.
const MORE_PX = 500;
const FLIPPED_MS = 2500;

const root = byId("grid");

export class Grid {
  #groups = [];
  #tiles = new Map();
  #active = null;
  #chosen = null;
  #columns = 1;
  #rem = 16;
  #frame = null;
  #total = 0;

  // onChoose: a sensor. now: what time it is. where: in words, at which space a sensor is placed.
  constructor({ onChoose, now, where }) {
    Object.assign(this, { onChoose, now, where });
    new ResizeObserver(() => {
      this.#measure();
      this.#draw();
    }).observe(root);
    addEventListener("scroll", () => this.#draw(), { passive: true });
    addEventListener("resize", () => this.#draw());
    root.addEventListener("click", (event) => this.#click(event));
    root.addEventListener("keydown", (event) => this.#press(event));
    root.addEventListener("focus", () => this.#focus());
  }

  // Groups ({ state, title, sensors }) from top to bottom. What is in view stays where it is.
  show(groups) {
    const anchor = this.#anchor(groups);
    const boxes = new Map(this.#groups.map((group) => [group.state, group.box]));
    this.#groups = groups.filter((group) => group.sensors.length).map((group) => ({ ...group, box: boxes.get(group.state) ?? makeBox(group) }));
    const wanted = this.#groups.map((group) => group.box);
    if (wanted.length !== root.children.length || wanted.some((box, place) => box !== root.children[place])) root.replaceChildren(...wanted);
    this.#total = this.#groups.reduce((sum, group) => sum + group.sensors.length, 0);
    root.hidden = !this.#groups.length;
    this.#measure();
    if (anchor) scrollBy(0, root.getBoundingClientRect().top + this.#topOf(...this.#placeOf(anchor.id)) - anchor.y);
    this.#render();
  }

  // Which one the details are of.
  choose(id) {
    this.#chosen = id;
    if (id) this.#active = id;
    this.#draw();
  }

  // Time goes on for those in view.
  tick() {
    for (const tile of this.#tiles.values()) this.#fillAge(tile);
  }

  focus() {
    root.focus({ preventScroll: true });
  }

  #measure() {
    this.#rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    this.#columns = Math.max(1, Math.floor(root.clientWidth / (WIDTH * this.#rem)));
    root.style.setProperty("--columns", this.#columns);
    this.#layOut();
  }

  #layOut() {
    let top = 0;
    let before = 0;
    for (const group of this.#groups) {
      Object.assign(group, { top, before, rows: Math.ceil(group.sensors.length / this.#columns) });
      const height = (HEADING + group.rows * ROW) * this.#rem;
      group.box.style.height = `${height}px`;
      write(group.box.firstElementChild.lastElementChild, number(group.sensors.length));
      top += height;
      before += group.sensors.length;
    }
  }

  #draw() {
    this.#frame ??= requestAnimationFrame(() => this.#render());
  }

  #render() {
    cancelAnimationFrame(this.#frame);
    this.#frame = null;
    const old = this.#tiles;
    this.#tiles = new Map();
    const { top } = root.getBoundingClientRect();
    const row = ROW * this.#rem;
    for (const group of this.#groups) {
      const head = top + group.top + HEADING * this.#rem;
      const inRange = (count) => Math.min(Math.max(count, 0), group.rows);
      const first = inRange(Math.floor((-MORE_PX - head) / row));
      const last = inRange(Math.ceil((innerHeight + MORE_PX - head) / row));
      const from = first * this.#columns;
      const tiles = group.sensors.slice(from, last * this.#columns).map((sensor, place) => {
        const tile = old.get(sensor.id) ?? makeTile(sensor.id);
        this.#tiles.set(sensor.id, tile);
        this.#fill(tile, sensor, group.before + from + place + 1);
        return tile;
      });
      const list = group.box.lastElementChild;
      list.style.paddingTop = `${first * row}px`;
      if (tiles.length !== list.children.length || tiles.some((tile, place) => tile !== list.children[place])) list.replaceChildren(...tiles);
    }
    if (this.#tiles.has(this.#active)) root.setAttribute("aria-activedescendant", `sensor-${this.#active}`);
    else root.removeAttribute("aria-activedescendant");
  }

  #fill(tile, sensor, place) {
    const { name, state, where } = tile.parts;
    tile.sensor = sensor;
    write(name, sensor.label);
    write(state, wordOf(sensor.state));
    write(where, this.where(sensor));
    tile.classList.toggle("troubled", Boolean(sensor.trouble));
    this.#fillAge(tile);
    tile.setAttribute("aria-posinset", place);
    tile.setAttribute("aria-setsize", this.#total);
    tile.setAttribute("aria-selected", String(sensor.id === this.#chosen));
    tile.classList.toggle("active", sensor.id === this.#active);
  }

  #fillAge(tile) {
    write(tile.parts.age, ageOf(tile.sensor, this.now()));
    tile.classList.toggle("flipped", performance.now() - tile.sensor.flipped < FLIPPED_MS);
  }

  // A tile in view that stays in its group, and where its upper edge is; none, where the list begins in view.
  #anchor(groups) {
    if (root.getBoundingClientRect().top >= 0) return null;
    const stays = new Set(groups.map((group) => group.state));
    for (const group of this.#groups) {
      for (const tile of stays.has(group.state) ? group.box.lastElementChild.children : []) {
        const y = tile.getBoundingClientRect().top;
        const wanted = groups.find((next) => next.state === group.state);
        if (y >= 0 && wanted.state === tile.sensor.state && wanted.sensors.includes(tile.sensor)) return { id: tile.sensor.id, y };
      }
    }
    return null;
  }

  // Which group, and which place in it.
  #placeOf(id) {
    for (const group of this.#groups) {
      const place = group.sensors.findIndex((sensor) => sensor.id === id);
      if (place >= 0) return [group, place];
    }
    return [null, -1];
  }

  #topOf(group, place) {
    return group.top + (HEADING + Math.floor(place / this.#columns) * ROW) * this.#rem;
  }

  // The first one in view, where none is active: from there the arrows go on.
  #focus() {
    if (this.#placeOf(this.#active)[0]) return this.#draw();
    const tile = [...this.#tiles.values()].find((shown) => shown.getBoundingClientRect().top >= 0);
    this.#active = tile?.sensor.id ?? null;
    this.#draw();
  }

  #activate(group, place) {
    this.#active = group.sensors[place].id;
    const y = root.getBoundingClientRect().top + this.#topOf(group, place);
    const row = ROW * this.#rem;
    const above = y - byId("bar").offsetHeight - HEADING * this.#rem;
    const below = y + row - innerHeight;
    if (above < 0) scrollBy(0, above);
    else if (below > 0) scrollBy(0, below + row / 4);
    this.#render();
  }

  #click(event) {
    const tile = event.target.closest(".tile");
    if (!tile) return;
    this.#active = tile.sensor.id;
    this.onChoose(tile.sensor);
    this.#draw();
  }

  #press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.#groups.length) return;
    const [group, place] = this.#placeOf(this.#active);
    const at = group ? group.before + place : -1;
    const page = Math.max(1, Math.floor(innerHeight / (ROW * this.#rem)) - 2);
    const steps = {
      ArrowRight: () => at + 1,
      ArrowLeft: () => at - 1,
      ArrowDown: () => this.#below(group, place, 1),
      ArrowUp: () => this.#below(group, place, -1),
      PageDown: () => this.#below(group, place, page),
      PageUp: () => this.#below(group, place, -page),
      Home: () => 0,
      End: () => this.#total - 1,
    };
    if (steps[event.key]) {
      const next = Math.min(Math.max(group || event.key === "End" ? steps[event.key]() : 0, 0), this.#total - 1);
      const into = this.#groups.findLast((other) => other.before <= next);
      this.#activate(into, next - into.before);
    } else if ((event.key === "Enter" || event.key === " ") && group) this.onChoose(group.sensors[place]);
    else return;
    event.preventDefault();
  }

  // So many rows further down, in the same column, also into another group.
  #below(group, place, rows) {
    const column = place % this.#columns;
    let row = Math.floor(place / this.#columns) + rows;
    let at = this.#groups.indexOf(group);
    while (row < 0 && at > 0) row += this.#groups[--at].rows;
    while (row >= this.#groups[at].rows && at < this.#groups.length - 1) row -= this.#groups[at++].rows;
    const into = this.#groups[at];
    const there = Math.min(Math.max(row, 0), into.rows - 1) * this.#columns + column;
    return into.before + Math.min(there, into.sensors.length - 1);
  }
}

const WORDS = { offline: "Offline", never_seen: "Never heard from", quiet: "Quiet", online: "Online" };

export const wordOf = (state) => WORDS[state] ?? state;

// A token for a part of the site is not told when a sensor was heard from before it came there.
export const unheard = (state) => (["online", "offline", "quiet"].includes(state) ? "elsewhere" : "never");

export function ageOf(sensor, now) {
  if (!sensor.seen) return unheard(sensor.state);
  const age = now - sensor.seen;
  return age < 60000 ? "just now" : `${lasting(age)} ago`;
}

function makeBox(group) {
  const heading = element("div", "heading", element("span", "", group.title), " ", element("span", "soft"));
  heading.setAttribute("role", "presentation");
  const list = element("div", "tiles");
  list.setAttribute("role", "presentation");
  const box = element("div", `group ${group.state}`, heading, list);
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", group.title);
  return box;
}

function makeTile(id) {
  const parts = {
    name: element("span", "name"),
    state: element("span", "unseen"),
    age: element("span", "age"),
    where: element("span", "where"),
  };
  const tile = element("div", "tile", parts.name, " ", parts.state, " ", parts.age, " ", parts.where);
  tile.setAttribute("role", "option");
  tile.id = `sensor-${id}`;
  tile.dataset.sensor = id;
  tile.parts = parts;
  return tile;
}
