// GET /v1/live as long as the page is open. With fetch and not EventSource, which cannot send a token.

import { request } from "./api.js";

const SHORTEST_MS = 500;
const LONGEST_MS = 15000;
// The service says something every 10 seconds; a line that is silent for longer is dead.
const SILENCE_MS = 25000;

// Calls back with every event (name, data), on each change of state: connecting, live or waiting (and how long), and
// whenever what events do not tell has to be listed (onOpen): each time it begins, and where the service says so.
export class Live {
  #lastId = "";
  #pause = SHORTEST_MS;
  #abort = null;
  #wake = null;

  constructor({ onEvent, onState, onOpen }) {
    Object.assign(this, { onEvent, onState, onOpen });
    addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.hurry());
  }

  // Tries again at once if it is waiting.
  hurry() {
    this.#wake?.();
  }

  async run() {
    for (;;) {
      this.onState("connecting");
      let reason = "the connection ended";
      try {
        await this.#listen();
      } catch (error) {
        reason = error.name === "AbortError" ? "the line is dead" : error.message;
      }
      const pause = this.#pause * (0.75 + Math.random() / 2);
      this.#pause = Math.min(this.#pause * 2, LONGEST_MS);
      this.onState("waiting", pause, reason);
      await new Promise((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, pause);
      });
      this.#wake = null;
    }
  }

  async #listen() {
    this.#abort = new AbortController();
    const headers = { Accept: "text/event-stream", ...(this.#lastId && { "Last-Event-ID": this.#lastId }) };
    const answer = await this.#within(request("/v1/live", { headers, signal: this.#abort.signal }));
    if (!answer.ok) {
      const problem = await answer.json().catch(() => ({}));
      throw new Error(problem.detail ?? `the service answers ${answer.status}`);
    }
    // What events do not tell is looked up before the first of them is shown.
    await this.onOpen();
    this.onState("live");
    this.#pause = SHORTEST_MS;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await this.#within(reader.read());
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      blocks.forEach((block) => this.#dispatch(block));
    }
  }

  // Gives up on a service that says nothing for too long.
  #within(answer) {
    const silence = setTimeout(() => this.#abort.abort(), SILENCE_MS);
    return answer.finally(() => clearTimeout(silence));
  }

  #dispatch(block) {
    let name = "message";
    const data = [];
    for (const line of block.split("\n")) {
      const colon = line.indexOf(":");
      const [field, value] = colon < 0 ? [line, ""] : [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, "")];
      if (field === "event") name = value;
      else if (field === "data") data.push(value);
      else if (field === "id") this.#lastId = value;
    }
    if (name === "list") this.onOpen().catch(() => this.#abort.abort());
    else if (data.length) this.onEvent(name, JSON.parse(data.join("\n")));
  }
}
