// Requests to the API, with a token once the service has asked for one.

const KEY = "headcount-token";
const PATIENCE_MS = 10000;

const dialog = document.getElementById("ask");
const why = document.getElementById("ask-why");
const field = document.getElementById("token");

dialog.addEventListener("cancel", (event) => event.preventDefault());
dialog.addEventListener("close", () => {
  sessionStorage.setItem(KEY, field.value.trim());
  field.value = "";
  location.reload(); // so that nothing is left of what another token has seen
});

// One question, however many requests wait for the answer: for good, since the page begins anew with it.
function askForToken(words) {
  if (!dialog.open) {
    if (words) why.textContent = words;
    document.body.classList.add("locked");
    dialog.showModal();
  }
  return new Promise(() => {});
}

// The answer to a request, whatever its status is, unless another token is needed: then it asks for one.
export async function request(path, { headers = {}, ...more } = {}) {
  const token = sessionStorage.getItem(KEY);
  const authorization = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { ...more, headers: { ...headers, ...authorization }, cache: "no-store" });
  if (answer.status !== 401 && (answer.status !== 403 || !token)) return answer;
  const { detail = "The service refuses the token." } = await answer.json().catch(() => ({}));
  return askForToken(token ? `${detail.replace(/\.$/, "")}. Enter another token.` : "");
}

// The JSON of an answer and its headers; null instead of the JSON, if it still is what has this tag.
// Throws an Error whose message is what the service says, with its status.
export async function getUnless(tag, path) {
  const headers = { Accept: "application/json", ...(tag && { "If-None-Match": tag }) };
  const answer = await request(path, { headers, signal: AbortSignal.timeout(PATIENCE_MS) });
  if (answer.status === 304) return { body: null, headers: answer.headers };
  return { body: await (await checked(answer)).json(), headers: answer.headers };
}

async function checked(answer) {
  if (answer.ok) return answer;
  const { detail = answer.statusText } = await answer.json();
  throw Object.assign(new Error(detail), { status: answer.status });
}

export const get = async (path) => (await getUnless(null, path)).body;

export async function post(path, content) {
  const headers = { Accept: "application/json", "Content-Type": "application/json" };
  const signal = AbortSignal.timeout(PATIENCE_MS);
  return (await checked(await request(path, { method: "POST", headers, body: JSON.stringify(content), signal }))).json();
}

// However long it takes.
export async function getText(path, signal) {
  return (await checked(await request(path, { signal }))).text();
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
