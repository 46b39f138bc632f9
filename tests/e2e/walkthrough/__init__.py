"""The whole story in a browser, as a new user lives it; and the pictures of it that docs show."""
