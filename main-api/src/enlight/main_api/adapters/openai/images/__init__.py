"""OpenAI's images: made, edited, cut out, and linked to."""
