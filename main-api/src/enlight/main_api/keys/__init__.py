"""Who is asking: tenants, their keys, the routes that make them."""
