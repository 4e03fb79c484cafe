"""Long work: images that are captioned one after another, and kept on disk until they are."""
