// BentoML ships Swagger UI; its own page loads a tracker.
SwaggerUIBundle({
  url: "/docs.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  // Without this the page would ask an outside validator for a badge.
  validatorUrl: null,
});
