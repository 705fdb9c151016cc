// The page of sensors: who is silent first, filtered as the address says.

import { list } from "./api.js";
import { Details } from "./details.js";
import { byId, element, number, write } from "./dom.js";
import { Grid } from "./grid.js";
import { onRetry, showState } from "./link.js";
import { Live } from "./live.js";
import { News } from "./news.js";
import { Roster } from "./roster.js";

const SETTLE_MS = 150;
// Instead of the id of a space; no id has this character.
const NOWHERE = "~";
const STATES = [["offline", "Offline"], ["never_seen", "Never heard from"], ["quiet", "Quiet"], ["online", "Online"]];

const search = byId("search");
const chooser = byId("space");
const form = byId("filters");
const states = form.elements.namedItem("state");

const filter = { space: "", state: "", text: "" };
let spaces = new Map();
let sorted = [];
let fault = "";
let isLoaded = false;
let frame = null;
let settling = null;
let scrolled = 0;

const roster = new Roster({
  onChange: arrangeSoon,
  onFlip(sensor, before) {
    news.add(sensor, before);
    if (sensor.id === details.id) details.refresh();
  },
});
const now = () => roster.now();
const news = new News({
  onOpen(sensors) {
    if (sensors.length === 1) location.hash = encodeURIComponent(sensors[0].id);
    else scrollTo(0, 0);
  },
});
const details = new Details({ now, space: (id) => spaces.get(id) });
const grid = new Grid({
  onChoose(sensor) { location.hash = encodeURIComponent(sensor.id); },
  now,
  where: (sensor) => [sensor.trouble, sensor.space === null ? "not installed at a doorway" : nameOf(sensor.space)].filter(Boolean).join(" · "),
});

const nameOf = (id) => spaces.get(id)?.name ?? id;

function readAddress() {
  const given = new URLSearchParams(location.search);
  filter.space = given.get("space") ?? "";
  filter.state = STATES.some(([state]) => state === given.get("state")) ? given.get("state") : "";
  filter.text = given.get("q") ?? "";
  search.value = filter.text;
  states.value = filter.state;
  roster.of(filter.space === NOWHERE ? null : filter.space || null);
}

function writeAddress() {
  const given = Object.entries({ space: filter.space, state: filter.state, q: filter.text }).filter(([, value]) => value);
  const query = new URLSearchParams(given).toString();
  history.replaceState(null, "", `${location.pathname}${query && `?${query}`}${location.hash}`);
}

async function loadSpaces() {
  const found = await list("/v1/spaces");
  spaces = new Map(found.map((space) => [space.id, space]));
  const below = new Map();
  for (const space of found) {
    const parent = spaces.has(space.parent) ? space.parent : null;
    below.set(parent, [...(below.get(parent) ?? []), space]);
  }
  const options = [option("", "All spaces"), option(NOWHERE, "Hanging nowhere")];
  const add = (parent, level) => {
    for (const space of below.get(parent) ?? []) {
      options.push(option(space.id, `${"\u2003".repeat(level)}${space.name ?? space.id}`));
      add(space.id, level + 1);
    }
  };
  add(null, 0);
  if (filter.space && filter.space !== NOWHERE && !spaces.has(filter.space)) options.push(option(filter.space, filter.space));
  const isSame = options.length === chooser.options.length
    && options.every((made, place) => made.value === chooser.options[place].value && made.text === chooser.options[place].text);
  if (!isSame) chooser.replaceChildren(...options);
  chooser.value = filter.space;
  sorted = [];
  arrangeSoon();
}

const option = (value, text) => Object.assign(element("option", "", text), { value });

async function loadSensors() {
  try {
    await roster.read();
    fault = "";
  } catch (error) {
    // That there is no such space is not the connection's fault.
    if (error.status !== 404 && error.status !== 422) throw error;
    fault = error.message;
    arrangeSoon();
  }
  isLoaded = true;
}

// However many changes come together, once before the next picture. A page that nobody sees has none.
function arrangeSoon() {
  frame ??= requestAnimationFrame(() => {
    frame = null;
    arrange();
  });
}

function arrange() {
  const all = [...roster.all];
  if (sorted.length !== all.length || all.some((sensor) => !sensor.isSorted)) {
    for (const sensor of all) {
      sensor.isSorted = true;
      sensor.text = `${sensor.id} ${sensor.label} ${sensor.mac ?? ""} ${sensor.space === null ? "" : `${sensor.space} ${nameOf(sensor.space)}`}`.toLowerCase();
    }
    sorted = all.sort((one, other) => (one.order < other.order ? -1 : one.order > other.order ? 1 : 0));
  }
  const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  const groups = new Map(STATES.map(([state, title]) => [state, { state, title, sensors: [] }]));
  for (const sensor of fault ? [] : sorted) {
    if (filter.space === NOWHERE && sensor.space !== null) continue;
    if (words.every((word) => sensor.text.includes(word))) groups.get(sensor.state)?.sensors.push(sensor);
  }
  let total = 0;
  for (const [state, { sensors }] of groups) {
    write(byId(`count-${state}`), number(sensors.length));
    total += sensors.length;
  }
  write(byId("count-all"), number(total));
  const offline = groups.get("offline").sensors.length;
  document.title = `${offline ? `(${number(offline)} offline) ` : ""}Sensors · Headcount`;
  const shown = [...groups.values()].filter((group) => !filter.state || group.state === filter.state);
  byId("quiet-note").hidden = !shown.some((group) => group.state === "quiet" && group.sensors.length);
  grid.show(shown);
  const isNothing = isLoaded && !shown.some((group) => group.sensors.length);
  byId("nothing").hidden = !isNothing;
  if (isNothing) sayWhy();
}

function sayWhy() {
  const isFiltered = filter.space || filter.state || filter.text;
  byId("reset").hidden = !isFiltered;
  if (fault) write(byId("why"), fault);
  else if (isFiltered) write(byId("why"), "No sensor is like that.");
  else write(byId("why"), "There are no sensors yet. The first heartbeat or event of one brings it here by itself.");
}

function applyFilter(change) {
  const before = filter.space;
  Object.assign(filter, change);
  writeAddress();
  if (filter.space !== before) {
    readAddress();
    loadSensors().catch(() => live.hurry());
  }
  arrangeSoon();
}

// The sensor that the address names.
function show({ moveFocus = false } = {}) {
  let id = "";
  try {
    id = decodeURIComponent(location.hash.slice(1));
  } catch {
    // not of ours
  }
  const isNarrow = getComputedStyle(byId("close")).display !== "none" && matchMedia("(max-width: 52rem)").matches;
  if (id && !details.id) scrolled = scrollY;
  const before = details.id;
  document.body.classList.toggle("chosen", Boolean(id));
  details.show(id || null);
  grid.choose(id || null);
  if (!moveFocus) return;
  if (isNarrow) scrollTo(0, id ? 0 : scrolled);
  if (id && isNarrow) byId("name").focus();
  else if (!id && before) grid.focus();
}

function onEvent(name, data) {
  if (name === "space") {
    settling ??= setTimeout(() => {
      settling = null;
      loadSpaces().catch(() => live.hurry());
      roster.hurry();
    }, SETTLE_MS);
  }
  if (name === "dpu" && !roster.turn(data)) roster.hurry();
}

const live = new Live({
  onEvent,
  onState: showState,
  async onOpen() {
    details.refresh();
    await Promise.all([loadSensors(), loadSpaces()]);
  },
});

readAddress();
onRetry(() => live.hurry());
search.addEventListener("input", () => applyFilter({ text: search.value.trim() }));
chooser.addEventListener("change", () => applyFilter({ space: chooser.value }));
byId("states").addEventListener("change", () => applyFilter({ state: states.value }));
form.addEventListener("submit", (event) => event.preventDefault());
byId("reset").addEventListener("click", () => {
  search.value = "";
  chooser.value = "";
  states.value = "";
  applyFilter({ space: "", state: "", text: "" });
});
byId("close").addEventListener("click", (event) => {
  event.preventDefault();
  history.pushState(null, "", `${location.pathname}${location.search}`);
  show({ moveFocus: true });
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && details.id && !byId("ask").open && event.target !== search) byId("close").click();
});
addEventListener("hashchange", () => show({ moveFocus: true }));
addEventListener("popstate", () => {
  const before = filter.space;
  readAddress();
  if (filter.space !== before) loadSensors().catch(() => live.hurry());
  show({ moveFocus: true });
  arrangeSoon();
});
setInterval(() => {
  grid.tick();
  details.tick();
}, 1000);
show();
live.run();
