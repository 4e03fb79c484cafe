// Starts Swagger UI on this service's own description. Nothing is loaded from elsewhere.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  defaultModelsExpandDepth: 0,
  showCommonExtensions: true, // minimum, maximum
  validatorUrl: null,
});
