"""The web page. It knows the suite only through main-api's public routes."""
