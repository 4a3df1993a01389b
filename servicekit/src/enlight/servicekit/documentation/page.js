// Shows openapi.json. Text from the document is only ever set as text, never as markup.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

// Prose with `code` in it.
function prose(text) {
  return (text ?? "").split("`").map((part, index) => (index % 2 ? element("code", {}, part) : part));
}

function resolve(document_, schema) {
  let known = schema ?? {};
  for (let depth = 0; known.$ref && depth < 20; depth += 1) {
    const path = known.$ref.replace("#/", "").split("/");
    known = path.reduce((part, key) => part?.[key], document_) ?? {};
  }
  return known;
}

function withoutNull(document_, schema) {
  const known = resolve(document_, schema);
  const parts = (known.anyOf ?? known.oneOf ?? []).filter((part) => part.type !== "null");
  return parts.length === 1 ? { ...known, ...resolve(document_, parts[0]), anyOf: undefined } : known;
}

function typeText(document_, schema) {
  const known = withoutNull(document_, schema);
  if (known.const !== undefined) return JSON.stringify(known.const);
  if (known.enum) return known.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (known.type === "array") return `list of ${typeText(document_, known.items)}`;
  const parts = known.anyOf ?? known.oneOf;
  if (parts) return parts.map((part) => typeText(document_, part)).join(" or ");
  if (known.type === "object" && known.additionalProperties?.type) {
    return `object of ${typeText(document_, known.additionalProperties)}`;
  }
  return [known.type ?? "any"].flat().join(" or ");
}

function boundsText(document_, schema) {
  const known = withoutNull(document_, schema);
  const size = known.type === "array" ? "elements" : "characters";
  const least = known.minLength ?? known.minItems;
  const most = known.maxLength ?? known.maxItems;
  const bounds = [
    [known.minimum, (value) => `≥ ${value}`],
    [known.exclusiveMinimum, (value) => `> ${value}`],
    [known.maximum, (value) => `≤ ${value}`],
    [known.exclusiveMaximum, (value) => `< ${value}`],
    [known.multipleOf, (value) => `a multiple of ${value}`],
    [least ?? most, () => (most === undefined ? `${least} ${size} or more` : `${least ?? 0} to ${most} ${size}`)],
    [known.pattern, (value) => `matches ${value}`],
  ];
  return bounds.filter(([value]) => value !== undefined).map(([value, text]) => text(value)).join(", ");
}

function exampleOf(document_, schema, depth = 0) {
  const known = withoutNull(document_, schema);
  if (known.examples?.length) return known.examples[0];
  if (known.example !== undefined) return known.example;
  if (known.default !== undefined && known.default !== null) return known.default;
  if (known.const !== undefined) return known.const;
  if (known.enum) return known.enum[0];
  if (depth > 6) return null;
  if (known.properties) {
    const properties = Object.entries(known.properties);
    return Object.fromEntries(properties.map(([name, part]) => [name, exampleOf(document_, part, depth + 1)]));
  }
  if (known.type === "array") return [exampleOf(document_, known.items, depth + 1)];
  if (known.anyOf) return exampleOf(document_, known.anyOf[0], depth + 1);
  return { string: "...", integer: known.minimum ?? 1, number: 1.5, boolean: true, object: {} }[known.type] ?? null;
}

// What a client has to send: the required fields, and those whose example somebody wrote.
function requestExample(document_, schema) {
  const known = resolve(document_, schema);
  if (known.examples?.length || !known.properties) return exampleOf(document_, known);
  const required = known.required ?? [];
  const sent = Object.entries(known.properties).filter(
    ([name, part]) => required.includes(name) || resolve(document_, part).examples?.length,
  );
  return Object.fromEntries(sent.map(([name, part]) => [name, exampleOf(document_, part, 1)]));
}

function fieldRow(document_, name, schema, required, note = "") {
  const known = resolve(document_, schema);
  const fallback = known.default;
  const meaning = element("td", {}, ...prose(known.description));
  const example = known.examples?.[0] ?? known.example;
  if (example !== undefined) {
    meaning.append(element("div", { class: "quiet" }, "e.g. ", element("code", {}, JSON.stringify(example))));
  }
  const needed = required ? element("strong", {}, "required") : "";
  const given = fallback !== undefined && fallback !== null ? element("code", {}, JSON.stringify(fallback)) : "";
  return element(
    "tr",
    {},
    element("td", {}, element("code", { class: "name" }, name), element("div", { class: "quiet" }, note)),
    element("td", {}, typeText(document_, schema), element("div", { class: "quiet" }, boundsText(document_, schema))),
    element("td", {}, needed || given || element("span", { class: "quiet" }, "optional")),
    meaning,
  );
}

function fieldTable(rows) {
  const titles = ["Field", "Type", "Default", "Meaning"].map((title) => element("th", { scope: "col" }, title));
  const head = element("thead", {}, element("tr", {}, ...titles));
  return element("div", { class: "wide" }, element("table", {}, head, element("tbody", {}, ...rows)));
}

function code(text) {
  return element("pre", { tabindex: "0" }, element("code", {}, text));
}

function shellQuoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function curl(document_, method, path, operation, body) {
  const parameters = operation.parameters ?? [];
  const filled = parameters
    .filter((parameter) => parameter.in === "path")
    .reduce((url, parameter) => url.replace(`{${parameter.name}}`, parameter.name.toUpperCase()), path);
  const base = window.location.href.replace(/\/docs.*$/, "");
  const lines = [`curl ${method === "get" ? "" : `-X ${method.toUpperCase()} `}${shellQuoted(base + filled)}`];
  for (const [contentType, content] of Object.entries(body)) {
    if (contentType === "application/json") {
      const example = JSON.stringify(requestExample(document_, content.schema), null, 2);
      lines.push(`  -H 'Content-Type: application/json'`, `  -d ${shellQuoted(example)}`);
    } else {
      lines.push(`  -H ${shellQuoted(`Content-Type: ${contentType}`)}`, "  --data-binary @FILE");
    }
    break;
  }
  return lines.join(" \\\n");
}

function answer(document_, status, given) {
  const response = resolve(document_, given);
  const badge = element("code", { class: `status s${status[0]}` }, status);
  const title = element("summary", {}, badge, " ", ...prose(response.description));
  const details = element("details", status[0] === "2" ? { open: "" } : {}, title);
  for (const [contentType, content] of Object.entries(response.content ?? {})) {
    const schema = resolve(document_, content.schema);
    if (schema.description) details.append(element("p", {}, ...prose(schema.description)));
    if (schema.properties) {
      const rows = Object.entries(schema.properties).map(([name, part]) => fieldRow(document_, name, part, false));
      for (const row of rows) row.children[2].remove();
      const table = fieldTable(rows);
      table.querySelectorAll("th")[2].remove();
      details.append(table, code(JSON.stringify(exampleOf(document_, schema), null, 2)));
    } else {
      details.append(element("p", { class: "quiet" }, contentType));
    }
  }
  return details;
}

function operationSection(document_, path, method, operation) {
  const id = operation.operationId ?? `${method}${path}`;
  const heading = element(
    "h3",
    {},
    element("span", { class: `method ${method}` }, method.toUpperCase()),
    " ",
    element("a", { href: `#${id}`, class: "path" }, path),
  );
  const section = element("section", { id }, heading, element("p", { class: "lead" }, ...prose(operation.summary)));
  if (operation.description) {
    section.append(...operation.description.split(/\n\s*\n/).map((text) => element("p", {}, ...prose(text))));
  }
  const rows = (operation.parameters ?? []).map((parameter) =>
    fieldRow(
      document_,
      parameter.name,
      { description: parameter.description, ...resolve(document_, parameter.schema) },
      parameter.required,
      `in the ${parameter.in}`,
    ),
  );
  const body = operation.requestBody?.content ?? {};
  for (const content of Object.values(body)) {
    const schema = resolve(document_, content.schema);
    for (const [name, part] of Object.entries(schema.properties ?? {})) {
      rows.push(fieldRow(document_, name, part, (schema.required ?? []).includes(name)));
    }
  }
  if (rows.length) section.append(element("h4", {}, "Request"), fieldTable(rows));
  section.append(element("h4", {}, "Try it"), code(curl(document_, method, path, operation, body)));
  section.append(element("h4", {}, "Answers"));
  for (const [status, response] of Object.entries(operation.responses ?? {})) {
    section.append(answer(document_, status, response));
  }
  return section;
}

function show(document_) {
  const { info } = document_;
  window.document.title = `${info.title} ${info.version}`;
  const page = window.document.getElementById("page");
  const contents = window.document.getElementById("contents");
  page.replaceChildren(
    element("h1", {}, info.title, " ", element("span", { class: "quiet" }, info.version)),
    element("p", { class: "lead" }, ...prose(info.description)),
    element("p", { class: "quiet" }, "The same for programs: ", element("a", { href: "openapi.json" }, "openapi.json")),
  );
  const groups = new Map();
  for (const [path, operations] of Object.entries(document_.paths ?? {})) {
    for (const method of METHODS.filter((name) => operations[name])) {
      const group = operations[method].tags?.[0] ?? "routes";
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push([path, method, operations[method]]);
    }
  }
  // What every service answers comes last: it is not what somebody opened this page for.
  const names = [...groups.keys()].sort((a, b) => (a === "service") - (b === "service"));
  for (const name of names) {
    const tag = (document_.tags ?? []).find((known) => known.name === name);
    page.append(element("h2", {}, name), element("p", {}, ...prose(tag?.description)));
    const list = element("ul");
    for (const [path, method, operation] of groups.get(name)) {
      const section = operationSection(document_, path, method, operation);
      page.append(section);
      const label = element("span", { class: `method ${method}` }, method.toUpperCase());
      list.append(element("li", {}, element("a", { href: `#${section.id}` }, label, " ", path)));
    }
    contents.append(element("h2", {}, name), list);
  }
  if (window.location.hash) window.document.getElementById(window.location.hash.slice(1))?.scrollIntoView();
}

fetch("openapi.json")
  .then((response) => {
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    return response.json();
  })
  .then(show)
  .catch((error) => {
    window.document.getElementById("page").replaceChildren(
      element("p", { role: "alert" }, `The documentation could not be loaded (${error.message}).`),
    );
  });
