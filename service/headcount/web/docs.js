// The viewer of GET /schema: swagger-ui, which `python -m headcount.web` fetches. Every address is relative.

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

// Opens what #/Topic/operation names. Swagger UI's own way takes each _ in a name for an old way to write a blank.
const openLink = (_, system) => (hash) => {
  const names = hash.replace(/^#!?\/?/, "").split("/");
  if (!names[0]) return;
  const keys = names.map((_name, last) => system.layoutSelectors.isShownKeyFromUrlHashArray(names.slice(0, last + 1)));
  for (const key of keys) system.layoutActions.show(key, true);
  system.layoutActions.scrollTo(keys.at(-1));
};
const links = () => ({ statePlugins: { layout: { wrapActions: { parseDeepLinkHash: openLink } } } });

// Swagger UI reads all of the document it is given each time an operation is opened. So it is given a part: the
// operation, and what that refers to.
const cutOut = (whole, [kind, name, ...more]) => {
  if (name === undefined || !["paths", "components"].includes(kind)) return whole;
  const part = { ...whole, paths: {}, components: {} };
  const keep = (...keys) => {
    const last = keys.pop();
    const from = keys.reduce((all, key) => all?.[key], whole);
    const to = keys.reduce((all, key) => (all[key] ??= {}), part);
    if (from?.[last] === undefined || to[last] !== undefined) return;
    to[last] = from[last];
    const references = JSON.stringify(to[last]).matchAll(/#\/components\/([\w-]+)\/([\w.-]+)/g);
    for (const [, ...reference] of references) keep("components", ...reference);
  };
  keep(kind, name, ...(kind === "components" ? more.slice(0, 1) : []));
  return part;
};
const parts = ({ fn }) => {
  const resolve = fn.resolveSubtree;
  return { fn: { resolveSubtree: (whole, path, options) => resolve(cutOut(whole, path), path, options) } };
};

if (window.SwaggerUIBundle) {
  window.SwaggerUIBundle({
    url: "schema",
    domNode: document.getElementById("viewer"),
    deepLinking: true,
    docExpansion: "none",
    defaultModelsExpandDepth: 0,
    defaultModelExpandDepth: 3,
    plugins: [links, parts],
    displayRequestDuration: true,
    filter: true,
    // nothing is sent to other hosts, and nothing in the address of this page can change what it shows
    queryConfigEnabled: false,
    validatorUrl: null,
    persistAuthorization: false,
    syntaxHighlight: { activated: true, theme: "agate" },
  });
} else {
  document.getElementById("missing").hidden = false;
}
