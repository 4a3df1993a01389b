"""How much one caller, and all together, may have at once."""
