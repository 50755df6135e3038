"use strict";
// Everything of the document becomes text nodes, never markup.
const METHODS = ["get", "put", "post", "patch", "delete"];

function node(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

function prose(tag, text) {
  const parts = text.split("`").map((part, i) => (i % 2 ? node("code", {}, part) : part));
  return node(tag, {}, ...parts);
}

function nameOf(reference) {
  return reference.split("/").pop();
}

function linkTo(name) {
  return node("a", { href: "#schema-" + name }, name);
}

/** What a schema stands for, in a few words, as nodes. */
function shape(schema) {
  if (schema.$ref) return [linkTo(nameOf(schema.$ref))];
  const several = schema.anyOf || schema.oneOf || schema.allOf;
  if (several) {
    return several.flatMap((item, i) => (i ? [schema.allOf ? " and " : " or ", ...shape(item)] : shape(item)));
  }
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(" | ")];
  if ("const" in schema) return [JSON.stringify(schema.const)];
  if (schema.type === "array") return ["list of ", ...(schema.items ? shape(schema.items) : ["anything"]), bounds(schema)];
  return [(schema.type || "anything") + bounds(schema)];
}

function bounds(schema) {
  const said = [];
  if (schema.format) said.push(schema.format);
  const least = schema.minimum ?? schema.minLength ?? schema.minItems;
  const most = schema.maximum ?? schema.maxLength ?? schema.maxItems;
  const unit = "maxLength" in schema ? " characters" : "maxItems" in schema ? " items" : "";
  if ("exclusiveMinimum" in schema) said.push("above " + schema.exclusiveMinimum);
  if (least !== undefined && most !== undefined) said.push(`${least} to ${most}${unit}`);
  else if (most !== undefined) said.push(`up to ${most}${unit}`);
  else if (least !== undefined) said.push(`from ${least}${unit}`);
  if (schema.pattern) said.push(schema.pattern);
  return said.length ? ` (${said.join(", ")})` : "";
}

function notes(schema) {
  const parts = [schema, ...(schema.anyOf || [])];
  const said = parts.map((part) => part.description).filter(Boolean);
  if (schema.default !== undefined) said.push("If it is left out: `" + JSON.stringify(schema.default) + "`.");
  return said.join(" ");
}

function table(heads, rows) {
  const head = node("tr", {}, ...heads.map((text) => node("th", { scope: "col" }, text)));
  return node("table", {}, node("thead", {}, head), node("tbody", {}, ...rows));
}

function row(...cells) {
  return node("tr", {}, ...cells.map((cell) => (cell instanceof Node ? node("td", {}, cell) : node("td", {}, ...cell))));
}

function fields(schema) {
  const required = new Set(schema.required || []);
  const rows = Object.entries(schema.properties || {}).map(([name, field]) =>
    row([node("code", {}, name), required.has(name) ? " *" : ""], shape(field), prose("span", notes(field))));
  return rows.length ? table(["field", "what", ""], rows) : null;
}

function content(media) {
  return Object.entries(media || {}).flatMap(([type, { schema, example }]) => [
    node("p", {}, node("code", {}, type), ": ", ...(schema ? shape(schema) : ["bytes"])),
    example === undefined ? null : node("pre", {}, JSON.stringify(example, null, 2)),
  ]);
}

function operation(doc, path, method, described) {
  const body = node("div", {});
  if (described.description) body.append(prose("p", described.description));
  const scopes = described.security?.[0].key;
  if (scopes?.length) body.append(prose("p", "With a key of the scope `" + scopes.join("` and `") + "`."));
  const other = described.operationId + "_by_header";
  for (const [at, item] of Object.entries(doc.paths)) {
    if (item[method]?.operationId === other) {
      body.append(prose("p", "Also at `" + at + "`, for the space in the header `X-Memory-Space`."));
    }
  }
  const parameters = (described.parameters || []).map((item) =>
    row([node("code", {}, item.name), item.required ? " *" : ""], [item.in], shape(item.schema),
      prose("span", [item.description, notes(item.schema)].filter(Boolean).join(" "))));
  if (parameters.length) body.append(node("h3", {}, "Parameters"), table(["name", "in", "what", ""], parameters));
  if (described.requestBody) {
    const optional = described.requestBody.required ? "" : ", which may be left out";
    body.append(node("h3", {}, "Body" + optional), ...content(described.requestBody.content).filter(Boolean));
  }
  const answers = Object.entries(described.responses).map(([status, answer]) => {
    const resolved = answer.$ref ? doc.components.responses[nameOf(answer.$ref)] : answer;
    const what = Number(status) < 400 ? content(resolved.content).filter(Boolean) : [];
    return row([node("code", {}, status)], [prose("span", resolved.description), ...what]);
  });
  body.append(node("h3", {}, "Answers"), table(["status", ""], answers));
  return node("details", { id: described.operationId },
    node("summary", {}, node("span", { className: "method " + method }, method.toUpperCase()),
      node("code", {}, path), " ", node("span", {}, described.summary)), body);
}

function show(doc) {
  const main = document.getElementById("content");
  const index = document.getElementById("index");
  main.replaceChildren(
    node("h1", {}, doc.info.title),
    node("p", {}, "Version " + doc.info.version + ", ", node("a", { href: "openapi.json" }, "openapi.json")),
    ...doc.info.description.trim().split("\n\n").map((text) => prose("p", text)));
  for (const tag of doc.tags) {
    const section = node("section", {}, node("h2", {}, tag.description));
    const list = node("ul", {});
    for (const [path, item] of Object.entries(doc.paths)) {
      for (const method of METHODS) {
        const described = item[method];
        if (!described?.tags.includes(tag.name) || described.operationId.endsWith("_by_header")) continue;
        section.append(operation(doc, path, method, described));
        list.append(node("li", {}, node("a", { href: "#" + described.operationId }, described.summary)));
      }
    }
    main.append(section);
    index.append(node("div", {}, node("h2", {}, tag.description), list));
  }
  const schemas = node("section", {}, node("h2", {}, "What bodies and answers hold"));
  for (const [name, schema] of Object.entries(doc.components.schemas)) {
    const body = node("div", {});
    if (schema.description) body.append(prose("p", schema.description));
    const table = fields(schema);
    if (table) body.append(table);
    schemas.append(node("details", { id: "schema-" + name }, node("summary", {}, node("code", {}, name)), body));
  }
  main.append(schemas);
}

function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) {
    target.open = true;
    target.scrollIntoView();
    target.querySelector("summary").focus({ preventScroll: true });
  }
}

function find(text) {
  const wanted = text.trim().toLowerCase();
  for (const found of document.querySelectorAll("main details, nav li")) {
    found.hidden = !found.textContent.toLowerCase().includes(wanted);
  }
}

const search = document.getElementById("search");
search.addEventListener("input", () => find(search.value));
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !(event.target instanceof HTMLInputElement)) {
    event.preventDefault();
    search.focus();
  } else if (event.key === "Escape" && event.target === search) {
    search.value = "";
    find("");
  }
});
window.addEventListener("hashchange", openTarget);

fetch("openapi.json")
  .then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error("HTTP " + answer.status))))
  .then((doc) => { show(doc); openTarget(); })
  .catch((error) => { document.getElementById("state").textContent = "The document could not be read: " + error.message; });
