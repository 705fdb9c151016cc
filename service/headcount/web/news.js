// Flips: those that come together are told together, in a line on the page and, to who asked for it, as a notification
// of the browser.

import { byId, clock, number, write } from "./dom.js";

const KEY = "headcount-notify";
const GATHER_MS = 1000;
const NAMED = 5;

const line = byId("news");
const button = byId("notify");

const named = (sensors) => {
  const names = sensors.slice(0, NAMED).map((sensor) => sensor.label).join(", ");
  return sensors.length > NAMED ? `${names} and ${number(sensors.length - NAMED)} more` : names;
};

export class News {
  #flips = new Map();
  #timer = null;

  // onOpen: somebody clicked on the notification of these sensors.
  constructor({ onOpen }) {
    this.onOpen = onOpen;
    button.hidden = !("Notification" in window);
    button.addEventListener("click", () => this.#toggle());
    this.#show();
  }

  // A sensor is in another state than before. That it was heard from for the first time, or is quiet, is no news.
  add(sensor, before) {
    const first = this.#flips.get(sensor.id)?.before ?? before;
    const isFlip = (first === "offline") !== (sensor.state === "offline");
    if (!isFlip || first === "never_seen") this.#flips.delete(sensor.id);
    else this.#flips.set(sensor.id, { sensor, before: first });
    this.#timer ??= setTimeout(() => this.#tell(), GATHER_MS);
  }

  get #isWanted() {
    return !button.hidden && Notification.permission === "granted" && localStorage.getItem(KEY) === "on";
  }

  #tell() {
    this.#timer = null;
    const sensors = [...this.#flips.values()].map((flip) => flip.sensor);
    this.#flips.clear();
    if (!sensors.length) return;
    const gone = sensors.filter((sensor) => sensor.state === "offline");
    const back = sensors.filter((sensor) => sensor.state !== "offline");
    const amount = (count) => (count === 1 ? "1 sensor" : `${number(count)} sensors`);
    const parts = [];
    if (gone.length) parts.push([`${amount(gone.length)} went offline`, named(gone)]);
    if (back.length) parts.push([`${amount(back.length)} came back`, named(back)]);
    write(line, [clock(Date.now()), ...parts.map((part) => part.join(": "))].join(" · "));
    if (!this.#isWanted) return;
    const title = parts.map(([what]) => what).join(", ");
    const body = parts.map(([, who]) => who).join("\n");
    try {
      // Of several tabs that say the same, one is shown.
      const notification = new Notification(title, { body, icon: "/web/icon.svg", tag: `${title}\n${body}` });
      notification.addEventListener("click", () => {
        focus();
        notification.close();
        this.onOpen(sensors);
      });
    } catch {
      // Browsers on phones have the constructor, and throw.
      localStorage.removeItem(KEY);
      button.hidden = true;
      write(line, "This browser shows no notifications of pages.");
    }
  }

  async #toggle() {
    if (this.#isWanted) localStorage.removeItem(KEY);
    else if ((await Notification.requestPermission()) === "granted") localStorage.setItem(KEY, "on");
    else write(line, "The browser does not allow notifications of this page; its settings can change that.");
    this.#show();
  }

  #show() {
    if (!button.hidden) button.setAttribute("aria-pressed", String(this.#isWanted));
  }
}
