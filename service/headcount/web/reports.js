// The page of uptime reports: which one the address names, or the newest; and of it one site.

import { get, getText, list, post } from "./api.js";
import { byId, element, number, write } from "./dom.js";
import { onRetry, showState } from "./link.js";
import { Table, makeRow, percent, sites } from "./table.js";
import { Timeline } from "./timeline.js";

const LISTED = 100;
const RUNNING_MS = 500;
const IDLE_MS = 10000;
const SHORTEST_MS = 500;
const LONGEST_MS = 15000;

const search = byId("search");
const chooser = byId("report");
const trigger = byId("trigger");
const download = byId("download");

const table = new Table({ onChoose(row) { location.hash = encodeURIComponent(row.id); } });
const timeline = new Timeline();

let requested = "";
let listed = [];
let listedAt = 0;
let report = null;
let rows = null;
let fault = "";
let pause = SHORTEST_MS;
let timer = null;
let turn = 0;
let scrolled = 0;

function readAddress() {
  const given = new URLSearchParams(location.search);
  requested = given.get("report") ?? "";
  search.value = given.get("q") ?? "";
}

function writeAddress(isNew = false) {
  const given = Object.entries({ report: requested, q: search.value.trim() }).filter(([, value]) => value);
  const query = new URLSearchParams(given).toString();
  history[isNew ? "pushState" : "replaceState"](null, "", `${location.pathname}${query && `?${query}`}${location.hash}`);
}

// What there is to know now, and again when there may be more: soon while a report runs.
async function look() {
  clearTimeout(timer);
  const mine = ++turn;
  let wait = IDLE_MS;
  try {
    await refresh(() => mine === turn);
    if (mine !== turn) return;
    pause = SHORTEST_MS;
    showState("live");
    timeline.retry();
    if (report?.status === "Running") wait = RUNNING_MS;
  } catch (error) {
    if (mine !== turn) return;
    wait = pause * (0.75 + Math.random() / 2);
    pause = Math.min(pause * 2, LONGEST_MS);
    showState("waiting", wait, error.message);
  }
  if (!document.hidden) timer = setTimeout(look, wait);
}

async function refresh(isWanted) {
  const id = requested || report?.id;
  fault = "";
  // Only what runs is asked for often.
  let found = report?.status === "Running" && report.id === id && Date.now() < listedAt + IDLE_MS ? await find(id) : null;
  if (found?.status !== "Running") {
    const { items } = await get(`/v1/reports?limit=${LISTED}`);
    found = items.find((item) => item.id === id) ?? (requested ? await find(requested) : items[0] ?? null);
    if (isWanted()) [listed, listedAt] = [items, Date.now()];
  }
  if (!isWanted()) return;
  if (found?.id !== report?.id) rows = null;
  report = found;
  render();
  if (report?.status !== "Complete" || rows) return;
  const [csv, items] = await Promise.all([getText(report.csv_url), list(`/v1/reports/${encodeURIComponent(report.id)}/rows`)]);
  if (!isWanted()) return;
  rows = items.map(makeRow);
  URL.revokeObjectURL(download.href);
  download.href = URL.createObjectURL(new Blob([csv], { type: "text/csv" }));
  download.download = `uptime-${report.id}.csv`;
  table.show(rows);
  render();
}

// That there is no such report is not the connection's fault.
async function find(id) {
  try {
    return await get(`/v1/reports/${encodeURIComponent(id)}`);
  } catch (error) {
    if (error.status !== 404) throw error;
    fault = error.message;
    return null;
  }
}

function render() {
  renderChooser();
  const { status, progress } = report ?? {};
  const isRunning = status === "Running";
  byId("running").hidden = !isRunning && (status !== "Complete" || rows !== null);
  write(byId("running-title"), isRunning ? "The report is being computed" : "The report is being loaded");
  const part = isRunning ? Math.floor(progress * 100) : 100;
  byId("progress").value = part / 100;
  write(byId("percent"), `${part} %`);
  document.title = `${isRunning ? `(${part} %) ` : ""}Reports · Headcount`;
  if (status) write(byId("announcement"), { Running: "The report is being computed.", Failed: "The report failed.", Complete: rows ? "The report is complete." : "" }[status]);
  byId("result").hidden = !rows?.length;
  const words = wordsFor(status);
  byId("nothing").hidden = !words;
  write(byId("nothing"), words);
  if (rows?.length) renderResult();
  show();
}

function wordsFor(status) {
  if (fault) return fault;
  if (!report) return "There are no reports yet. A new one tells how long each site was up within its opening hours.";
  if (status === "Failed") return `The report failed: ${report.detail}`;
  if (rows && !rows.length) return "No sites to report. Reports cover spaces that were polled or came from the site files.";
  return "";
}

function renderChooser() {
  const all = report && !listed.some((item) => item.id === report.id) ? [report, ...listed] : listed;
  const option = (value, text) => Object.assign(element("option", "", text), { value });
  const options = all.map((item) => option(item.id, titleOf(item.id === report?.id ? report : item)));
  if (!report) options.unshift(option("", all.length ? "Choose a report" : "No report yet"));
  chooser.disabled = !all.length;
  const isSame = options.length === chooser.options.length
    && options.every((made, place) => made.value === chooser.options[place].value && made.text === chooser.options[place].text);
  if (!isSame) chooser.replaceChildren(...options);
  chooser.value = report?.id ?? "";
}

const instant = (text) => new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" }).format(Date.parse(text));

function titleOf({ status, created_at: created, under, rows: count }) {
  const words = { Running: "being computed", Failed: "failed" }[status] ?? sites(count);
  return `${instant(created)} · ${under ? `${under} · ` : ""}${words}`;
}

function renderResult() {
  // what was never polled is neither up nor down
  const polled = rows.filter((row) => row.polled);
  const unpolled = rows.length - polled.length;
  const sum = (field) => polled.reduce((total, row) => total + row[field], 0);
  const [up, open] = [sum("weekUp"), sum("weekUp") + sum("weekDown")];
  const all = open ? `, up for ${percent(up / open)} of their opening hours together` : "";
  write(byId("summary"), `The week up to ${instant(report.now)}: ${sites(rows.length)}${unpolled ? `, ${number(unpolled)} of them never polled` : ""}${all}`);
  const count = table.filter(search.value);
  write(byId("found"), count === rows.length ? "" : count ? `${number(count)} of ${sites(rows.length)}` : "No site is like that.");
}

// The site that the address names.
function show({ moveFocus = false } = {}) {
  let id = "";
  try {
    id = decodeURIComponent(location.hash.slice(1));
  } catch {
    // not of ours
  }
  const isNarrow = matchMedia("(max-width: 52rem)").matches;
  if (id && !timeline.id) scrolled = scrollY;
  const before = timeline.id;
  document.body.classList.toggle("chosen", Boolean(id));
  // Up to when, is known with the report.
  if (!id) timeline.show(null);
  else if (listedAt) timeline.show(id, report?.now ?? null, rows?.find((row) => row.id === id) ?? null);
  table.choose(id || null);
  if (!moveFocus) return;
  if (isNarrow) scrollTo(0, id ? 0 : scrolled);
  if (id && isNarrow) byId("name").focus();
  else if (!id && before) table.focus();
}

function chooseReport(id) {
  requested = id;
  writeAddress(true);
  look();
}

trigger.addEventListener("click", async () => {
  trigger.disabled = true;
  write(byId("said"), "");
  try {
    const made = await post("/v1/reports", {});
    listed = [made, ...listed];
    [report, rows] = [made, null];
    render();
    chooseReport(made.id);
  } catch (error) {
    write(byId("said"), `No new report: ${error.message}`);
  } finally {
    trigger.disabled = false;
  }
});
chooser.addEventListener("change", () => chooseReport(chooser.value));
search.addEventListener("input", () => {
  writeAddress();
  renderResult();
});
byId("close").addEventListener("click", (event) => {
  event.preventDefault();
  history.pushState(null, "", `${location.pathname}${location.search}`);
  show({ moveFocus: true });
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && timeline.id && !byId("ask").open && event.target !== search) byId("close").click();
});
addEventListener("hashchange", () => show({ moveFocus: true }));
addEventListener("popstate", () => {
  const before = requested;
  readAddress();
  if (requested !== before) {
    report = null;
    look();
  } else if (rows?.length) renderResult();
  show({ moveFocus: true });
});
addEventListener("online", look);
document.addEventListener("visibilitychange", () => document.hidden || look());
onRetry(look);
new ResizeObserver(() => document.documentElement.style.setProperty("--bar", `${byId("bar").offsetHeight}px`)).observe(byId("bar"));
readAddress();
show();
showState("connecting");
look();
