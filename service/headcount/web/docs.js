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

if (window.SwaggerUIBundle) {
  window.SwaggerUIBundle({
    url: "schema",
    domNode: document.getElementById("viewer"),
    deepLinking: true,
    docExpansion: "none",
    defaultModelsExpandDepth: 0,
    defaultModelExpandDepth: 3,
    plugins: [links],
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
