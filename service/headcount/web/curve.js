// Today's curve of one space, over yesterday's, from local midnight to local midnight.

import { get } from "./api.js";
import { byId, clock, number, write } from "./dom.js";

const HOURS = 3600;
const REFRESH_MS = 60000;
const UNCOUNTED = "Nothing counts for this space: no sensor at its outer doors has reported anything yet, and its count was never reset.";

const box = byId("curve");
const readout = byId("readout");
const text = byId("curve-text");
const seconds = (instant) => Date.parse(instant) / 1000;

let uPlot = null;
let trouble = "";
try {
  uPlot = (await import("./uPlot.esm.js")).default;
  const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href: "/web/uPlot.min.css" });
  document.head.append(link);
} catch {
  trouble = "No curve: the charting library uPlot is not installed on the server. There, run python -m headcount.web (it fetches it from npm, once), and reload this page.";
}

export class Curve {
  #space = null;
  #zone = "UTC";
  #day = null;
  #today = [];
  #yesterday = [];
  #range = [];
  #now = null;
  #capacity = null;
  #counted;  // since when; null: not at all
  #plot = null;
  #timer = null;
  #turn = 0;

  constructor() {
    new ResizeObserver(() => this.#plot?.setSize(this.#size())).observe(box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw(true));
    box.addEventListener("keydown", (event) => this.#press(event));
    box.addEventListener("blur", () => this.#plot?.setCursor({ left: -10, top: -10 }));
  }

  async show(space) {
    this.#space = space.id;
    this.#zone = space.effective_time_zone;
    this.#counted = undefined;
    this.#clear();
    write(text, trouble);
    box.classList.toggle("none", !uPlot);
    await this.refresh();
  }

  #clear() {
    this.#day = this.#now = null;
    this.#today = this.#yesterday = this.#range = [];
    this.#plot?.destroy();
    this.#plot = null;
    write(readout, "");
  }

  // The buckets anew. What happens between is the live count.
  async refresh() {
    clearTimeout(this.#timer);
    const turn = ++this.#turn;
    this.#timer = setTimeout(() => this.refresh().catch(() => {}), REFRESH_MS);
    if (!this.#space || !this.#counted) return;
    const path = `/v1/spaces/${encodeURIComponent(this.#space)}/counts`;
    const now = new Date();
    const dayAgo = new Date(now - 24 * HOURS * 1000);
    const days = await get(`${path}?interval=1d&from=${dayAgo.toISOString()}&to=${now.toISOString()}`);
    const [before, today] = days.buckets.slice(-2).map((day) => ({ ...day, start: seconds(day.start), end: seconds(day.end) }));
    const first = new Date((today ? before : { start: before.start }).start * 1000);
    const found = await get(`${path}?interval=15m&from=${first.toISOString()}&to=${now.toISOString()}`);
    if (turn !== this.#turn || !this.#counted) return;
    // before anything counted there is nothing to show
    const buckets = found.buckets.filter((bucket) => Date.parse(bucket.end) > this.#counted);
    this.#day = today ?? before;
    const { start } = this.#day;
    const shift = today ? start - before.start : 0;
    const points = buckets.map((bucket) => [seconds(bucket.end), bucket.count]);
    this.#today = points.filter(([at]) => at >= start && at <= now / 1000);
    this.#yesterday = today ? [[before.start, null], ...points.filter(([at]) => at <= start)].map(([at, count]) => [at + shift, count]) : [];
    const ofToday = buckets.filter((bucket) => seconds(bucket.start) >= start);
    this.#range = ofToday.map((bucket) => [Math.min(seconds(bucket.end), Math.floor(now / 1000)), bucket]);
    this.#say(ofToday);
    this.#draw();
  }

  // The newest count.
  add(count) {
    const counted = count.counted ? Date.parse(count.counted_since) : null;
    this.#capacity = count.capacity;
    if (counted !== this.#counted) {
      this.#counted = counted;
      this.#clear();
      box.classList.toggle("none", !uPlot || !counted);
      write(text, !uPlot ? trouble : counted ? "" : UNCOUNTED);
      this.refresh().catch(() => {});
    }
    if (!counted) return;
    this.#now = [Math.floor(Date.parse(count.at) / 1000), count.count];
    if (this.#day) this.#draw();
  }

  #say(buckets) {
    if (!uPlot) return;
    if (!buckets.length) return write(text, "");
    const peak = buckets.reduce((best, bucket) => (bucket.max > best.max ? bucket : best));
    const sum = (field) => buckets.reduce((total, bucket) => total + bucket[field], 0);
    const span = `${clock(Date.parse(peak.start), this.#zone)}–${clock(Date.parse(peak.end), this.#zone)}`;
    write(text, `Peak ${number(Math.max(peak.max, 0))} between ${span} · ${number(sum("entries"))} in, ${number(sum("exits"))} out`);
  }

  #data() {
    const now = this.#now?.[0] > (this.#today.at(-1)?.[0] ?? 0) ? [this.#now] : [];
    const today = new Map([...this.#today, ...now]);
    const yesterday = new Map(this.#yesterday);
    const range = new Map(this.#range);
    const edge = (at, name) => (range.has(at) ? Math.max(range.get(at)[name], 0) : undefined);
    const times = [...new Set([this.#day.start, ...today.keys(), ...yesterday.keys(), ...range.keys(), this.#day.end])].sort((a, b) => a - b);
    return [
      times,
      times.map((at) => yesterday.get(at) ?? undefined),
      times.map((at) => today.get(at) ?? undefined),
      times.map(() => this.#capacity),
      times.map((at) => edge(at, "max")),
      times.map((at) => edge(at, "min")),
    ];
  }

  #size() {
    return { width: Math.max(box.clientWidth, 120), height: Math.max(box.clientHeight, 120) };
  }

  #draw(anew = false) {
    if (!uPlot || !this.#day) return;
    byId("legend-capacity").hidden = this.#capacity === null || this.#capacity > this.#top();
    if (this.#plot && !anew) return this.#plot.setData(this.#data());
    this.#plot?.destroy();
    const colours = getComputedStyle(document.documentElement);
    const colour = (name) => colours.getPropertyValue(name).trim();
    const axis = { stroke: colour("--soft"), font: "12px system-ui, sans-serif", ticks: { show: false } };
    const { start, end } = this.#day;
    this.#plot = new uPlot({
      ...this.#size(),
      padding: [8, 18, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 }, focus: { prox: -1 } },
      scales: { x: { time: true, range: () => [start, this.#day.end] }, y: { range: () => [0, this.#top()] } },
      axes: [
        {
          ...axis,
          grid: { show: false },
          size: 28,
          splits: (plot) => splits(start, end, plot.width < 480 ? 6 : 3),
          values: (_, times) => times.map((at) => (at === end ? "24:00" : clock(at * 1000, this.#zone))),
        },
        {
          ...axis,
          size: (_, values) => 14 + 7.5 * Math.max(2, ...(values ?? []).map((value) => value.length)),
          grid: { stroke: colour("--line"), width: 1 },
          incrs: [1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000],
          values: (_, counts) => counts.map(number),
        },
      ],
      series: [
        {},
        { label: "yesterday", stroke: colour("--faint"), width: 1.25, points: { show: false }, spanGaps: true },
        { label: "today", stroke: colour("--accent"), fill: colour("--wash"), width: 2, points: { show: false }, spanGaps: true },
        { label: "capacity", class: "bare", stroke: colour("--over"), width: 1, dash: [5, 5], points: { show: false } },
        { label: "highest", class: "bare", points: { show: false }, spanGaps: true },
        { label: "lowest", class: "bare", points: { show: false }, spanGaps: true },
      ],
      bands: [{ series: [4, 5], fill: colour("--band") }],
      hooks: { setCursor: [(plot) => this.#read(plot)] },
    }, this.#data(), box);
  }

  // Room for the capacity, unless the curve would lie flat on the ground below it.
  #top() {
    const most = this.#range.map(([, bucket]) => bucket.max);
    const highest = Math.max(4, ...most, ...[...this.#today, ...this.#yesterday].map(([, count]) => count ?? 0), this.#now?.[1] ?? 0);
    const wanted = this.#capacity !== null && this.#capacity <= 3 * highest ? Math.max(highest, this.#capacity) : highest;
    return wanted * 1.08;
  }

  // What is known of a place on the axis, as texts.
  #known(plot, at) {
    const [, yesterday, today, , highest, lowest] = plot.data;
    const known = [];
    if (Number.isFinite(today[at])) known.push(number(today[at]));
    if (highest[at] > lowest[at]) known.push(`${number(lowest[at])} to ${number(highest[at])} in that quarter-hour`);
    else if (!known.length && Number.isFinite(highest[at])) known.push(number(highest[at]));
    if (Number.isFinite(yesterday[at])) known.push(`yesterday ${number(yesterday[at])}`);
    return known;
  }

  #read(plot) {
    const at = plot.cursor.idx;
    const known = at === null || at === undefined || plot.cursor.left < 0 ? [] : this.#known(plot, at);
    write(readout, known.length ? [clock(plot.data[0][at] * 1000, this.#zone), ...known].join(" · ") : "");
  }

  #press(event) {
    const plot = this.#plot;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!plot || !step) return;
    event.preventDefault();
    readout.setAttribute("aria-live", "polite");
    const last = this.#data()[0].findLastIndex((at) => at <= Date.now() / 1000);
    let place = plot.cursor.left >= 0 && plot.cursor.idx !== null ? plot.cursor.idx + step : last;
    // past the places of which nothing is known: the beginning of the day, and the time after now
    while (place in plot.data[0] && !this.#known(plot, place).length) place += step;
    if (place in plot.data[0]) plot.setCursor({ left: plot.valToPos(plot.data[0][place], "x"), top: 10 });
  }
}

function splits(start, end, hours) {
  const found = [];
  for (let at = start; at < end - HOURS; at += hours * HOURS) found.push(at);
  return [...found, end];
}
