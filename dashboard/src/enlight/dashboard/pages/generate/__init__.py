"""From a model to pictures, and what is done with them."""
