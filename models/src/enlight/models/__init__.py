"""The bundled small models and the scripts that made them."""
