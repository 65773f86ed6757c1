// BentoML ships Swagger UI; its own page loads a tracker, and its preface badges from outside.
const spec = await (await fetch("/docs.json")).json();
spec.info = {
  title: "Segue",
  version: spec.info.version.replace("None", "from source"),
  description: "Recommends the next few songs to a listener. The player page is at [/](/).",
};
SwaggerUIBundle({
  spec,
  dom_id: "#swagger-ui",
  deepLinking: true,
  // Without this the page would ask an outside validator for a badge.
  validatorUrl: null,
});
