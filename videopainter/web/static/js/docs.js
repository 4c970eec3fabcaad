// The interface as /openapi.json describes it, for people to read.

import { $, element } from "./state.js";

const described = await (await fetch("openapi.json")).json();

function kind(schema = {}) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.anyOf) return schema.anyOf.map(kind).filter((name) => name !== "null").join(" or ");
  if (schema.type === "array") return `list of ${kind(schema.items)}`;
  return schema.type ?? "anything";
}

const line = (name, schema, text, needed) =>
  element("li", {}, element("code", {}, name), ` ${kind(schema)}${needed ? ", needed" : ""}${text ? `: ${text}` : ""}`);

const fields = ({ properties = {}, required = [] }) =>
  Object.entries(properties).map(([name, schema]) => line(name, schema, schema.description, required.includes(name)));

function operation(path, method, { description, summary, parameters = [], requestBody }) {
  const body = requestBody?.content?.["application/json"]?.schema;
  return element(
    "section",
    { class: "job" },
    element("h2", {}, element("code", {}, `${method.toUpperCase()} ${path}`)),
    element("p", {}, description ?? `${summary}.`),
    element("ul", {}, ...parameters.map((one) => line(one.name, one.schema, one.description ?? one.schema.description, one.required)), ...(body ? [line("body", body)] : [])),
  );
}

$("paths").append(
  ...Object.entries(described.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, one]) => operation(path, method, one))),
  ...Object.entries(described.components.schemas)
    .filter(([name]) => !name.includes("ValidationError"))
    .map(([name, schema]) => element("section", { class: "job" }, element("h2", {}, name), element("p", {}, schema.description ?? ""), element("ul", {}, ...fields(schema)))),
);
