"""Background removal over HTTP."""
