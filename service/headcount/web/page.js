// The page: the tree on one side, the space that is chosen on the other, both kept up to date by one stream.

import { list } from "./api.js";
import { Curve } from "./curve.js";
import { byId, element, moment, number, people, write } from "./dom.js";
import { onRetry, showState } from "./link.js";
import { Live } from "./live.js";
import { Movement } from "./movement.js";
import { Tree, setGauge } from "./tree.js";

const SETTLE_MS = 150;

const detail = byId("detail");
const tree = new Tree({ onChoose: (id) => { location.hash = encodeURIComponent(id); } });
const curve = new Curve();
const movement = new Movement();

let shown = null;
let settling = null;

const inHash = () => {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
};

async function loadSpaces() {
  tree.setSpaces(await list("/v1/spaces"));
  show();
}

// Several changes that come together are looked up once.
function reloadSpaces() {
  settling ??= setTimeout(() => {
    settling = null;
    loadSpaces().catch(() => live.hurry());
  }, SETTLE_MS);
}

// The space that the address names; with room for both sides, the first one where it names none.
function show({ moveFocus = false } = {}) {
  const chosen = inHash();
  document.body.classList.toggle("chosen", Boolean(chosen));
  const space = tree.space(chosen || tree.first);
  detail.hidden = !space;
  byId("missing").hidden = Boolean(space) || !chosen;
  if (!space) {
    shown = null;
    tree.choose(null);
    document.title = "Headcount";
    if (chosen) sayWhatIsMissing(chosen).catch(() => {});
    return;
  }
  const path = tree.path(space.id);
  write(byId("path"), path.slice(0, -1).map((above) => above.name ?? above.id).join(" › "));
  write(byId("name"), space.name ?? space.id);
  write(byId("zone"), `Times are those of the space (${space.effective_time_zone})`);
  document.title = `${space.name ?? space.id} · Headcount`;
  if (shown !== space.id) {
    shown = space.id;
    tree.choose(space.id);
    curve.show(space).catch(() => {});
    movement.show(space).catch(() => {});
  }
  showCount();
  if (moveFocus && chosen && getComputedStyle(byId("back")).display !== "none") byId("name").focus();
}

// Why the space that the address names is not in the tree: it is retired, or there is none.
async function sayWhatIsMissing(chosen) {
  const retired = (await list("/v1/spaces?retired=true")).find((space) => space.id === chosen);
  if (chosen !== inHash() || tree.space(chosen)) return;
  if (!retired) write(byId("missing-why"), `There is no space with the id “${chosen}”. Choose one from the list.`);
  else {
    const since = moment(Date.parse(retired.retired_at), retired.effective_time_zone);
    write(byId("missing-why"), `The space “${retired.name ?? chosen}” is retired since ${since}. It is no longer in use.`);
  }
}

function showCount() {
  const count = tree.count(shown);
  if (!count) return;
  const { capacity, counted } = count;
  write(byId("count"), counted ? number(count.count) : "–");
  write(byId("of"), !counted ? "not counted" : capacity === null ? "people" : `of ${number(capacity)}`);
  const gauge = byId("gauge");
  gauge.hidden = !capacity || !counted;
  setGauge(gauge, count);
  gauge.setAttribute("aria-valuemax", capacity ?? 0);
  gauge.setAttribute("aria-valuenow", capacity ? Math.min(count.count, capacity) : 0);
  gauge.setAttribute("aria-valuetext", `${number(count.count)} of ${number(capacity ?? 0)}`);
  const over = counted && capacity !== null && count.count > capacity;
  byId("alert").hidden = !over;
  write(byId("alert"), over ? `${number(count.count - capacity)} over capacity` : "");
  const { placed, online } = count.dpus;
  const zone = tree.space(shown).effective_time_zone;
  const facts = [];
  if (capacity && counted) facts.push(["Utilization", `${Math.round(count.utilization * 100)} %`], ["Room for", people(Math.max(capacity - count.count, 0))]);
  else if (capacity) facts.push(["Capacity", people(capacity)]);
  const sensors = element("a", "", placed ? `${online === null ? "?" : number(online)} of ${number(placed)} online` : "none");
  sensors.href = `/sensors?space=${encodeURIComponent(shown)}`;
  facts.push(["Sensors", sensors, placed > 0 && online < placed]);
  facts.push(["Counted since", counted ? moment(Date.parse(count.counted_since), zone) : "never"]);
  if (count.since) facts.push(["Last reset", moment(Date.parse(count.since), zone)]);
  for (const [what, value] of tree.faults(shown)) facts.push([what, value, true, true]);
  write(byId("quiet"), counted ? "Nobody passed in the last quarter of an hour." : placed ? "Nothing counted yet." : "No sensor counts who passes here.");
  const wanted = facts.map(([name, value, isBad, isWide]) => element("div", [isBad && "bad", isWide && "wide"].filter(Boolean).join(" "), element("dt", "", name), element("dd", "", value)));
  const old = byId("facts");
  if (old.innerHTML !== wanted.map((fact) => fact.outerHTML).join("")) old.replaceChildren(...wanted);
  curve.add(count);
}

function onEvent(name, data) {
  if (name === "space") reloadSpaces();
  if (name !== "count") return;
  if (!tree.setCount(data)) reloadSpaces();
  if (data.space === shown || tree.space(data.space)?.parent === shown) showCount();
  if (data.space === shown) movement.hurry();
}

const live = new Live({
  onEvent,
  onState: showState,
  async onOpen() {
    await loadSpaces();
    if (shown) curve.refresh().catch(() => {});
    movement.hurry();
  },
});

onRetry(() => live.hurry());
addEventListener("hashchange", () => show({ moveFocus: true }));
setInterval(() => movement.tidy(), 15000);
live.run();
