// The tree of spaces with their counts: one row for each that is not folded away.

import { byId, element, number, people, signed, write } from "./dom.js";

const UNFOLDED = 200;
const DELTA_MS = 2500;

const nameOf = (space) => space.name ?? space.id;

export class Tree {
  #spaces = new Map();
  #below = new Map();
  #counts = new Map();
  #rows = new Map();
  #folded = new Set();
  #chosen = null;
  #focused = null;
  #typed = { text: "", at: 0 };

  constructor({ onChoose }) {
    this.root = byId("tree");
    this.onChoose = onChoose;
    this.root.addEventListener("click", (event) => this.#click(event));
    this.root.addEventListener("keydown", (event) => this.#press(event));
  }

  space(id) {
    return this.#spaces.get(id);
  }

  count(id) {
    return this.#counts.get(id);
  }

  get first() {
    return this.#below.get(null)?.[0]?.id ?? null;
  }

  // From the root down to the space itself.
  path(id) {
    const found = [];
    for (let space = this.#spaces.get(id); space; space = this.#spaces.get(space.parent)) found.unshift(space);
    return found;
  }

  setSpaces(spaces) {
    const isFirst = this.#spaces.size === 0;
    this.#spaces = new Map(spaces.map((space) => [space.id, space]));
    this.#below = new Map();
    for (const space of spaces) {
      const parent = this.#spaces.has(space.parent) ? space.parent : null;
      this.#below.set(parent, [...(this.#below.get(parent) ?? []), space]);
    }
    for (const id of this.#counts.keys()) if (!this.#spaces.has(id)) this.#counts.delete(id);
    if (isFirst && spaces.length > UNFOLDED) {
      for (const space of spaces) if (this.#spaces.has(space.parent) && this.#below.has(space.id)) this.#folded.add(space.id);
    }
    this.#render();
  }

  // Whether the space is one that the page knows.
  setCount(count) {
    const old = this.#counts.get(count.space);
    this.#counts.set(count.space, count);
    const row = this.#rows.get(count.space);
    if (row) this.#fill(row, count, old ? count.raw_count - old.raw_count : 0);
    const space = this.#spaces.get(count.space);
    const above = this.#rows.get(space?.parent);
    if (above) setMark(above, this.faults(space.parent));
    return Boolean(space);
  }

  // What shows that people were missed, and by how much: below 0, or fewer than in one of the spaces in it.
  faults(id) {
    const count = this.#counts.get(id);
    if (!count?.counted) return [];
    const found = [];
    if (count.raw_count < 0) found.push(["Raw count", `${signed(count.raw_count)}: people were missed`]);
    for (const space of this.#below.get(id) ?? []) {
      const below = this.#counts.get(space.id);
      if (below?.counted && below.count > count.count) found.push([`In ${nameOf(space)}`, `${people(below.count)}, more than in this space: some entries were missed`]);
    }
    return found;
  }

  choose(id) {
    this.#rows.get(this.#chosen)?.setAttribute("aria-selected", "false");
    this.#chosen = id;
    for (const { id: above } of this.path(id).slice(0, -1)) {
      if (this.#folded.delete(above)) this.#render();
    }
    this.#rows.get(id)?.setAttribute("aria-selected", "true");
    if (id && !this.root.contains(document.activeElement)) this.#moveTo(id, false);
  }

  #visible(parent = null, level = 1, found = []) {
    for (const space of this.#below.get(parent) ?? []) {
      found.push([space, level]);
      if (!this.#folded.has(space.id)) this.#visible(space.id, level + 1, found);
    }
    return found;
  }

  #render() {
    const hadFocus = this.root.contains(document.activeElement);
    const old = this.#rows;
    this.#rows = new Map();
    for (const [space, level] of this.#visible()) {
      const row = old.get(space.id) ?? this.#make(space.id);
      row.setAttribute("aria-level", level);
      row.style.setProperty("--level", level - 1);
      row.setAttribute("aria-selected", String(space.id === this.#chosen));
      if (this.#below.has(space.id)) row.setAttribute("aria-expanded", String(!this.#folded.has(space.id)));
      else row.removeAttribute("aria-expanded");
      write(row.querySelector(".name"), nameOf(space));
      this.#rows.set(space.id, row);
      const count = this.#counts.get(space.id);
      if (count) this.#fill(row, count, 0);
    }
    const rows = [...this.#rows.values()];
    if (rows.length !== this.root.children.length || rows.some((row, place) => row !== this.root.children[place])) {
      this.root.replaceChildren(...rows);
    }
    byId("nothing").hidden = rows.length > 0;
    write(byId("overview-note"), rows.length ? `${number(this.#spaces.size)} spaces` : "");
    this.#moveTo(this.#rows.has(this.#focused) ? this.#focused : this.#rows.keys().next().value, hadFocus);
  }

  #make(id) {
    const bar = element("span", "gauge", element("span"));
    bar.setAttribute("aria-hidden", "true");
    const twist = element("span", "twist");
    twist.setAttribute("aria-hidden", "true");
    const delta = element("span", "delta");
    delta.setAttribute("aria-hidden", "true");
    const mark = element("span", "mark", "!");
    mark.setAttribute("role", "img");
    mark.hidden = true;
    const label = element("span", "label", twist, element("span", "name"), mark, delta);
    const row = element("div", "row", label, bar, element("span", "number", "–"), element("span", "of"));
    row.setAttribute("role", "treeitem");
    row.tabIndex = -1;
    row.dataset.space = id;
    return row;
  }

  #fill(row, count, change) {
    row.classList.toggle("uncounted", !count.counted);
    write(row.querySelector(".number"), count.counted ? number(count.count) : "–");
    write(row.querySelector(".of"), !count.counted ? "not counted" : count.capacity === null ? "" : `/ ${number(count.capacity)}`);
    setGauge(row.querySelector(".gauge"), count);
    setMark(row, this.faults(count.space));
    if (change) {
      const delta = element("span", `delta ${change > 0 ? "in" : "out"}`, signed(change));
      delta.setAttribute("aria-hidden", "true");
      row.querySelector(".delta").replaceWith(delta);
      setTimeout(() => write(delta, ""), DELTA_MS);
    }
  }

  // A tree is one stop of the tab key; within it the arrows move.
  #moveTo(id, withFocus) {
    this.#rows.get(this.#focused)?.setAttribute("tabindex", "-1");
    const row = this.#rows.get(id);
    if (!row) return;
    this.#focused = id;
    row.tabIndex = 0;
    if (withFocus) row.focus();
  }

  #fold(id, folded) {
    if (folded) this.#folded.add(id);
    else this.#folded.delete(id);
    this.#render();
  }

  #click(event) {
    const row = event.target.closest(".row");
    if (!row) return;
    const { space } = row.dataset;
    this.#moveTo(space, true);
    if (event.target.closest(".twist") && row.hasAttribute("aria-expanded")) this.#fold(space, !this.#folded.has(space));
    else this.onChoose(space);
  }

  #press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const ids = [...this.#rows.keys()];
    const id = this.#focused;
    const place = ids.indexOf(id);
    const canUnfold = this.#below.has(id);
    const steps = {
      ArrowDown: () => this.#moveTo(ids[place + 1] ?? id, true),
      ArrowUp: () => this.#moveTo(ids[place - 1] ?? id, true),
      Home: () => this.#moveTo(ids[0], true),
      End: () => this.#moveTo(ids.at(-1), true),
      ArrowRight: () => (canUnfold && this.#folded.has(id) ? this.#fold(id, false) : canUnfold && this.#moveTo(ids[place + 1], true)),
      ArrowLeft: () => {
        if (canUnfold && !this.#folded.has(id)) this.#fold(id, true);
        else this.#moveTo(this.path(id).at(-2)?.id ?? id, true);
      },
      Enter: () => this.onChoose(id),
      " ": () => this.onChoose(id),
    };
    if (steps[event.key]) {
      event.preventDefault();
      this.#typed.at = 0;
      steps[event.key]();
    } else if (event.key.length === 1) {
      this.#type(event.key.toLowerCase(), ids, place);
    }
  }

  // To the next space whose name begins with what is typed.
  #type(key, ids, place) {
    const isNew = Date.now() - this.#typed.at > 700;
    this.#typed = { text: isNew ? key : this.#typed.text + key, at: Date.now() };
    const from = isNew ? place + 1 : place;
    const found = [...ids.slice(from), ...ids.slice(0, from)].find((id) =>
      nameOf(this.#spaces.get(id)).toLowerCase().startsWith(this.#typed.text));
    if (found) this.#moveTo(found, true);
  }
}

function setMark(row, faults) {
  const mark = row.querySelector(".mark");
  const words = faults.map(([what, value]) => `${what} ${value}.`).join(" ");
  mark.hidden = !faults.length;
  if (mark.title !== words) {
    mark.title = words;
    mark.setAttribute("aria-label", words);
  }
}

// A bar that is full at capacity.
export function setGauge(gauge, count) {
  gauge.classList.toggle("none", !count.capacity || !count.counted);
  gauge.classList.toggle("full", count.capacity !== null && count.count >= count.capacity * 0.9);
  gauge.classList.toggle("over", count.capacity !== null && count.count > count.capacity);
  gauge.style.setProperty("--part", count.capacity ? Math.min(count.count / count.capacity, 1) : 0);
}
