// The rows of a report, however many: in the document is only what is in view, and a little more.

import { byId, element, number } from "./dom.js";

// In rem, as in reports.css.
const ROW = 2.25;
// Beyond the edges of the window.
const MORE_PX = 400;
const HEADS = 2;

const box = byId("rows");
const table = byId("table");
const body = byId("body");
const heads = [...table.querySelectorAll("[data-by]")];

export class Table {
  #rows = [];
  #shown = [];
  #words = [];
  #by = "share";
  #isDown = false;
  #active = null;
  #chosen = null;
  #rem = 16;
  #frame = null;

  // onChoose: a row.
  constructor({ onChoose }) {
    this.onChoose = onChoose;
    new ResizeObserver(() => this.#draw()).observe(box);
    addEventListener("scroll", () => this.#draw(), { passive: true });
    addEventListener("resize", () => this.#draw());
    for (const head of heads) head.firstElementChild.addEventListener("click", () => this.#sortBy(head.dataset.by));
    body.addEventListener("click", (event) => {
      const row = event.target.closest("tr")?.row;
      if (row) this.#choose(row);
    });
    table.addEventListener("keydown", (event) => this.#press(event));
    table.addEventListener("focus", () => this.#focus());
  }

  // The worst week comes first.
  show(rows) {
    this.#rows = rows;
    this.#by = "share";
    this.#isDown = false;
    this.#sort();
  }

  // Those whose name and id have all the words. Returns how many.
  filter(text) {
    this.#words = text.toLowerCase().split(/\s+/).filter(Boolean);
    this.#arrange();
    return this.#shown.length;
  }

  // Which one the details are of.
  choose(id) {
    this.#chosen = id;
    if (id) this.#active = id;
    this.#draw();
  }

  focus() {
    table.focus({ preventScroll: true });
  }

  // The first look at a column is at what is worst or most: least of what was up, most of what was down.
  #sortBy(by) {
    this.#isDown = by === this.#by ? !this.#isDown : by.endsWith("Down");
    this.#by = by;
    this.#sort();
    const top = box.getBoundingClientRect().top - byId("bar").offsetHeight;
    if (top < 0) scrollBy(0, top);
  }

  #sort() {
    const by = this.#by === "id" ? "order" : this.#by;
    const turn = this.#isDown ? -1 : 1;
    const compare = (one, other) => (one < other ? -1 : one > other ? 1 : 0);
    this.#rows.sort((one, other) => {
      // What was never open, or never polled, has no share, and is at the end either way.
      if (one[by] === null || other[by] === null) return (one[by] === null) - (other[by] === null) || compare(one.order, other.order);
      return turn * compare(one[by], other[by]) || compare(other.weekDown, one.weekDown) || compare(one.order, other.order);
    });
    for (const head of heads) {
      if (head.dataset.by === this.#by) head.setAttribute("aria-sort", this.#isDown ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    this.#arrange();
  }

  #arrange() {
    this.#shown = this.#words.length ? this.#rows.filter((row) => this.#words.every((word) => row.text.includes(word))) : this.#rows;
    table.setAttribute("aria-rowcount", HEADS + this.#shown.length);
    this.#render();
  }

  #draw() {
    this.#frame ??= requestAnimationFrame(() => this.#render());
  }

  #render() {
    cancelAnimationFrame(this.#frame);
    this.#frame = null;
    this.#rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const row = ROW * this.#rem;
    const head = table.tHead.offsetHeight;
    box.style.height = `${head + this.#shown.length * row}px`;
    const top = box.getBoundingClientRect().top + head;
    const inRange = (count) => Math.min(Math.max(count, 0), this.#shown.length);
    const first = inRange(Math.floor((-MORE_PX - top) / row));
    const last = inRange(Math.ceil((innerHeight + MORE_PX - top) / row));
    const old = new Map([...body.rows].map((line) => [line.row, line]));
    const lines = this.#shown.slice(first, last).map((shown, place) => {
      const line = old.get(shown) ?? makeLine(shown);
      line.setAttribute("aria-rowindex", HEADS + first + place + 1);
      line.setAttribute("aria-selected", String(shown.id === this.#chosen));
      line.classList.toggle("active", shown.id === this.#active);
      return line;
    });
    table.style.marginTop = `${first * row}px`;
    if (lines.length !== body.rows.length || lines.some((line, place) => line !== body.rows[place])) body.replaceChildren(...lines);
    if (lines.some((line) => line.row.id === this.#active)) table.setAttribute("aria-activedescendant", `site-${this.#active}`);
    else table.removeAttribute("aria-activedescendant");
  }

  #choose(row) {
    this.#active = row.id;
    this.onChoose(row);
    this.#draw();
  }

  // The first one in view, where none is active: from there the arrows go on.
  #focus() {
    if (!this.#shown.some((row) => row.id === this.#active)) {
      const edge = table.tHead.getBoundingClientRect().bottom;
      this.#active = [...body.rows].find((line) => line.getBoundingClientRect().top >= edge - 1)?.row.id ?? null;
    }
    this.#draw();
  }

  #press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== table || !this.#shown.length) return;
    const at = this.#shown.findIndex((row) => row.id === this.#active);
    const page = Math.max(1, Math.floor(innerHeight / (ROW * this.#rem)) - 4);
    const steps = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: this.#shown.length - 1 };
    if (event.key in steps) this.#activate(Math.min(Math.max(steps[event.key], 0), this.#shown.length - 1));
    else if ((event.key === "Enter" || event.key === " ") && at >= 0) this.#choose(this.#shown[at]);
    else return;
    event.preventDefault();
  }

  #activate(place) {
    this.#active = this.#shown[place].id;
    const row = ROW * this.#rem;
    const head = table.tHead.offsetHeight;
    const y = box.getBoundingClientRect().top + head + place * row;
    const above = y - byId("bar").offsetHeight - head;
    const below = y + row - innerHeight;
    if (above < 0) scrollBy(0, above);
    else if (below > 0) scrollBy(0, below + row / 4);
    this.#render();
  }
}

// Never 100 % of what was down.
export function percent(share) {
  if (share === null) return "closed";
  return share === 0 || share === 1 ? `${share * 100} %` : `${(Math.floor(share * 1000) / 10).toFixed(1)} %`;
}

function makeLine(row) {
  const line = element("tr", "");
  line.id = `site-${row.id}`;
  line.row = row;
  const share = element("td", row.polled ? "share" : "share soft", element("span", "", row.polled ? percent(row.share) : "never polled"));
  if (!row.polled) share.colSpan = 3;
  if (row.share !== null) {
    const bar = element("i", "");
    bar.style.setProperty("--part", row.share);
    share.append(bar);
  }
  const cell = (value, className) => element("td", className, row.polled ? value.toFixed(2) : "–");
  const isBad = (down) => (row.polled && down ? "bad" : "");
  line.append(
    row.name ? element("td", "site", row.name, element("small", "", row.id)) : element("td", "site", row.id),
    share,
    ...(row.polled ? [cell(row.weekUp, ""), cell(row.weekDown, isBad(row.weekDown))] : []),
    cell(row.dayUp, "more"),
    cell(row.dayDown, `more ${isBad(row.dayDown)}`),
    cell(row.hourUp, "more"),
    cell(row.hourDown, `more ${isBad(row.hourDown)}`),
  );
  return line;
}

// A row of a report as the table has it.
export function makeRow({ space: id, name, polled, ...figures }) {
  const [weekUp, weekDown] = [figures.uptime_last_week_hours, figures.downtime_last_week_hours];
  const [dayUp, dayDown] = [figures.uptime_last_day_hours, figures.downtime_last_day_hours];
  const [hourUp, hourDown] = [figures.uptime_last_hour_minutes, figures.downtime_last_hour_minutes];
  const open = weekUp + weekDown;
  // Numbers in ids are ordered as numbers.
  const order = id.replace(/\d+/g, (digits) => digits.padStart(20, "0"));
  const text = `${name ?? ""} ${id}`.toLowerCase();
  return { id, name, polled, order, text, hourUp, dayUp, weekUp, hourDown, dayDown, weekDown, share: polled && open ? weekUp / open : null };
}

export const sites = (count) => (count === 1 ? "1 site" : `${number(count)} sites`);
