"""Ways to launch model actors: Ray, or inside this process."""
