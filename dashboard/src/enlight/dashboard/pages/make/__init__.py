"""From photos to a model: pick, check, start, follow."""
