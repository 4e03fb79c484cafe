"""Pictures fetched by URL: which addresses may be asked, and one careful request to them. Knows no
HTTP server, no engine and no model."""
