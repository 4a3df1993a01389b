"""Who looks at a page, and what a browser may do with it."""
