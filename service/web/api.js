// Requests to the API, with a token once the service has asked for one.

const KEY = "headcount-token";
const PATIENCE_MS = 10000;

const dialog = document.getElementById("ask");
const why = document.getElementById("ask-why");
const field = document.getElementById("token");
let asking = null;

// One question, however many requests wait for the answer.
function askForToken(words) {
  asking ??= new Promise((resolve) => {
    if (words) why.textContent = words;
    field.value = "";
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(KEY, field.value.trim());
      field.value = "";
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

// The answer to a GET, whatever its status is, but for 401: then it asks for a token and tries again.
export async function request(path, { headers = {}, signal } = {}) {
  for (;;) {
    const token = sessionStorage.getItem(KEY);
    const authorization = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch(path, { headers: { ...headers, ...authorization }, signal, cache: "no-store" });
    if (answer.status !== 401) return answer;
    if (token === sessionStorage.getItem(KEY)) {
      await askForToken(token ? "The service does not know that token, or it has expired. Another one?" : "");
    }
  }
}

// The JSON of an answer. Throws an Error whose message is what the service says, with its status.
export async function get(path) {
  const giveUp = new AbortController();
  const timer = setTimeout(() => giveUp.abort(), PATIENCE_MS);
  dialog.addEventListener("toggle", () => clearTimeout(timer), { once: true });
  try {
    const answer = await request(path, { headers: { Accept: "application/json" }, signal: giveUp.signal });
    const body = await answer.json();
    if (!answer.ok) throw Object.assign(new Error(body.detail ?? answer.statusText), { status: answer.status });
    return body;
  } finally {
    clearTimeout(timer);
  }
}

// All items of a list, page by page.
export async function list(path) {
  const items = [];
  for (let after = ""; after !== null;) {
    const page = await get(`${path}${path.includes("?") ? "&" : "?"}limit=1000${after && `&after=${encodeURIComponent(after)}`}`);
    items.push(...page.items);
    after = page.next;
  }
  return items;
}
