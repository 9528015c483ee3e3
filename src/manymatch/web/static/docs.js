// The reference of the API, drawn from its own OpenAPI description.

import { ask } from "./ask.js";
import { at, make } from "./dom.js";
import { fieldsOf, resolve, typeWords } from "./schema.js";
import { curlLine, trial } from "./trial.js";
import "./look.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const GROUPS = [
  ["Search", (path) => /^\/api\/(search|elements)/.test(path)],
  ["Items", (path) => path.startsWith("/api/items")],
  ["Two indexes compared", (path) => path.startsWith("/api/compare")],
  ["The server", () => true],
];

async function boot() {
  try {
    draw(await ask("openapi.json"));
  } catch (error) {
    at("trouble").textContent = error.status === 401
      ? "Whoever may read may see this page. Open the collection with your key first, then come back." : error.message;
    at("trouble").hidden = false;
  }
}

function draw(spec) {
  document.title = `The API \u00b7 ${spec.info.title} ${spec.info.version}`;
  at("lead").textContent = `${spec.info.description ?? ""} Everything the search page does, for programs: JSON in and out, UTF-8. Version ${spec.info.version}.`;
  const groups = grouped(spec);
  const list = [...groups.map(({ name, endpoints }) => make("div", {},
    make("h2", { className: "overline" }, name),
    make("ul", {}, endpoints.map((one) => make("li", {}, make("a", { href: `#${one.id}` }, verb(one.method), make("span", {}, breakable(one.path)))))))),
  make("div", {}, make("ul", {}, make("li", {}, make("a", { href: "#errors" }, "Errors"))))];
  // On a phone the list of endpoints would fill the first screens.
  const wide = matchMedia("(min-width: 900px)").matches;
  at("contents").replaceChildren(make("details", { open: wide }, make("summary", { className: "overline" }, "Endpoints"), list));
  at("reference").replaceChildren(...groups.map(({ name, endpoints }) =>
    make("section", { className: "group", "aria-label": name }, make("h2", {}, name), endpoints.map((one) => endpoint(spec, one)))), errors(spec));
  if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

function grouped(spec) {
  const all = Object.entries(spec.paths).flatMap(([path, item]) => METHODS.filter((method) => item[method]).map((method) =>
    ({ path, method, operation: item[method], shared: item.parameters ?? [], id: `${method}-${path.replaceAll(/\W+/g, "-").replace(/^-|-$/g, "")}` })));
  const groups = GROUPS.map(([name]) => ({ name, endpoints: [] }));
  for (const one of all) groups[GROUPS.findIndex(([, fits]) => fits(one.path))].endpoints.push(one);
  return groups.filter(({ endpoints }) => endpoints.length);
}

const verb = (method) => make("b", { className: `verb is-${method}` }, method.toUpperCase());

/** A path that may break after its slashes. */
const breakable = (path) => path.split("/").flatMap((part, n) => (n ? ["/", document.createElement("wbr"), part] : [part]));

function endpoint(spec, { path, method, operation, shared, id }) {
  const parameters = [...shared, ...(operation.parameters ?? [])].map((one) => resolve(spec, one));
  return make("article", { className: "endpoint", id, "aria-labelledby": `${id}-name` },
    make("h3", { id: `${id}-name` }, verb(method), make("code", {}, breakable(path))),
    make("p", {}, coded(operation.description ?? operation.summary ?? "")),
    operation.security?.length ? make("p", { className: "hint" }, "Needs a write key: Authorization: Bearer KEY") : null,
    parameters.length ? part("Parameters", parameterTable(spec, parameters)) : null,
    operation.requestBody ? part("Body", body(spec, operation.requestBody)) : null,
    part("Answers", answers(spec, operation.responses ?? {})),
    curlLine(command(spec, path, method, operation, parameters)),
    method === "get" ? trial(spec, path, parameters) : null);
}

/** Text whose `names` are set as code. */
const coded = (text) => text.split("`").map((piece, n) => (n % 2 ? make("code", {}, piece) : piece));

const part = (name, ...content) => make("div", { className: "part" }, make("h4", { className: "overline" }, name), ...content);

function parameterTable(spec, parameters) {
  const head = ["Name", "What it takes", "Meaning"].map((name) => make("th", { scope: "col" }, name));
  const rows = parameters.map((one) => {
    const at = resolve(spec, one.schema);
    const more = [one.in === "path" ? "in the path" : null, one.required && one.in !== "path" ? "required" : null,
      at.type === "array" ? "may be repeated" : null, at.default !== undefined ? `default ${JSON.stringify(at.default)}` : null].filter(Boolean);
    return make("tr", {}, make("th", { scope: "row" }, make("code", {}, one.name)),
      make("td", {}, typeWords(spec, one.schema), more.length ? make("span", { className: "hint" }, more.join(", ")) : null),
      make("td", {}, coded(one.description ?? at.description ?? "")));
  });
  return make("div", { className: "table", tabIndex: 0, role: "region", "aria-label": "Parameters" },
    make("table", {}, make("thead", {}, make("tr", {}, head)), make("tbody", {}, rows)));
}

function body(spec, requestBody) {
  return Object.entries(resolve(spec, requestBody).content ?? {}).map(([type, { schema }]) =>
    make("div", {}, make("p", { className: "hint" }, type), fieldsOf(spec, schema) ?? make("p", {}, typeWords(spec, schema))));
}

/** What comes back where all went well in full; of refusals the numbers, which the table at the end explains. */
function answers(spec, responses) {
  const well = Object.entries(responses).filter(([status]) => Number(status) < 400);
  const refused = Object.keys(responses).filter((status) => Number(status) >= 400);
  return [...well.map(([status, response]) => {
    const [type, content] = Object.entries(resolve(spec, response).content ?? {})[0] ?? [];
    const fields = content?.schema && fieldsOf(spec, content.schema);
    const line = [make("b", {}, status), make("span", {}, type ?? "no body")];
    return fields ? make("details", { className: "well" }, make("summary", {}, line), fields) : make("p", { className: "well" }, line);
  }), refused.length ? make("p", { className: "hint" }, "or ", refused.flatMap((status, n) => [n ? ", " : "", make("a", { href: "#errors" }, status)])) : null];
}

function errors(spec) {
  const told = new Map();
  for (const item of Object.values(spec.paths)) {
    for (const method of METHODS) {
      for (const [status, response] of Object.entries(item[method]?.responses ?? {})) {
        if (Number(status) >= 400 && !told.has(status)) told.set(status, resolve(spec, response).description ?? "");
      }
    }
  }
  const rows = [...told].sort().map(([status, words]) => make("tr", {}, make("th", { scope: "row" }, status), make("td", {}, words)));
  return make("section", { className: "group", id: "errors", "aria-label": "Errors" }, make("h2", {}, "Errors"),
    make("p", {}, "Every refusal has one shape; its type is what a program looks at, its message is for people:"),
    make("pre", { tabIndex: 0, "aria-label": "An error" }, '{"error": {"type": "DataError", "message": "k: 500, expected at most 200"}}'),
    make("div", { className: "table", tabIndex: 0, role: "region", "aria-label": "Errors" },
      make("table", {}, make("thead", {}, make("tr", {}, ["Status", "When"].map((name) => make("th", { scope: "col" }, name)))), make("tbody", {}, rows))));
}

const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const here = () => location.href.replace(/[?#].*$/, "").replace(/\/docs\/?$/, "");

function command(spec, path, method, operation, parameters) {
  const parts = ["curl"];
  const filled = path.replaceAll(/\{(\w+)\}/g, (_, name) => encodeURIComponent(exampleOf(spec, parameters.find((one) => one.name === name)) || name.toUpperCase()));
  const query = parameters.filter((one) => one.in === "query" && (one.required || one.example !== undefined));
  if (method === "get" && query.length) parts.push("-G");
  if (!["get", "post"].includes(method) || (method === "post" && !operation.requestBody)) parts.push("-X", method.toUpperCase());
  if (operation.security?.length) parts.push("-H", '"Authorization: Bearer $KEY"');
  parts.push(quote(here() + filled));
  if (method === "get") for (const one of query) parts.push("--data-urlencode", quote(`${one.name}=${exampleOf(spec, one) || one.name.toUpperCase()}`));
  parts.push(...bodyOf(spec, operation.requestBody));
  if (/picture|thumbnail/.test(path)) parts.push("-o", "picture.jpg");
  return parts.join(" ");
}

const exampleOf = (spec, one) => String(one?.example ?? resolve(spec, one?.schema).example ?? Object.values(one?.examples ?? {})[0]?.value ?? "");

function bodyOf(spec, requestBody) {
  const [type, content] = Object.entries(resolve(spec, requestBody)?.content ?? {})[0] ?? [];
  if (!type) return [];
  const schema = resolve(spec, content.schema);
  const example = content.example ?? schema.example ?? schema.examples?.[0] ?? null;
  const names = Object.entries(schema.properties ?? {});
  if (type.startsWith("multipart")) {
    return names.flatMap(([name, one]) => ["-F", quote(`${name}=${typeWords(spec, one) === "file" ? "@photo.jpg" : typeWords(spec, one).startsWith("list") ? "[]" : "{}"}`)]);
  }
  const small = Object.fromEntries((schema.required ?? schema.oneOf?.[0]?.required ?? names.slice(0, 1).map(([name]) => name)).map((name) =>
    [name, resolve(spec, schema.properties?.[name]).type === "array" ? ["a red wall"] : name === "key" ? "KEY" : "a red wall"]));
  return ["--json", quote(JSON.stringify(example ?? small))];
}

boot();
