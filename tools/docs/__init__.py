"""What makes the documentation: generated pages, and the hooks of the site."""
