// The line in the header that says whether what is shown is live.

import { byId, write } from "./dom.js";

const link = byId("link");
const retry = byId("retry");

export function onRetry(callback) {
  retry.addEventListener("click", callback);
}

// As Live tells it: connecting, live or waiting (for how long, and why).
export function showState(state, pause, reason) {
  link.className = `link ${state}`;
  retry.hidden = state !== "waiting";
  if (state === "live") write(link, "Live");
  else if (state === "connecting") write(link, "Connecting …");
  else {
    const seconds = Math.max(1, Math.round(pause / 1000));
    write(link, `Not live: ${reason.replace(/\.$/, "")}. Trying again in ${seconds} s.`);
  }
}
