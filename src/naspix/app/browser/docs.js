// The OpenAPI page: every route with what it takes, from openapi.json alone.
const kind = (schema = {}) => schema.enum?.join(" | ") || (schema.anyOf || []).map(kind).join(" or ")
  || (schema.type === "array" ? `list of ${kind(schema.items)}` : schema.format === "binary" || schema.contentMediaType ? "bytes" : schema.type || "");

(async () => {
  const found = await (await fetch("openapi.json")).json();
  const known = (schema) => (schema?.$ref ? found.components.schemas[schema.$ref.split("/").at(-1)] : schema);
  part("description").textContent = found.info.description;
  const routes = Object.entries(found.paths).flatMap(([path, several]) =>
    Object.entries(several).map(([method, route]) => [method.toUpperCase(), path, route]));
  for (const [method, path, route] of routes) {
    const fields = (route.parameters || []).map((one) => [`${one.name} (${one.in})`, one.schema, one.required, one.description]);
    const bodies = Object.entries(route.requestBody?.content || {});
    for (const [media, { schema }] of bodies.slice(0, 1)) {  // the others take the same
      const body = known(schema), named = Object.entries(body.properties || {});
      if (!named.length) fields.push([media, body, true, ""]);
      for (const [name, one] of named) fields.push([name, one, body.required?.includes(name), one.description]);
    }
    part("routes").append(made("section", { class: "nx-card nx-below" },
      made("h2", {}, `${method} ${path}`), made("p", {}, [route.description || route.summary || "", bodies.length > 1 ? `Sent as ${bodies.map(([media]) => media).join(" or ")}.` : ""].join(" ")),
      made("table", { class: "nx-routes" }, made("tbody", {}, ...fields.map(([name, schema, required, words]) => made("tr", {},
        made("th", { scope: "row" }, name), made("td", {}, `${kind(known(schema))}${required ? "" : ", if you like"}`), made("td", {}, words || "")))))));
  }
})();
