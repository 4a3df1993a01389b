"""A tenant's models: names, lists, removal, export and import."""
