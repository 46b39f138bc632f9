"""What authors of model plugins start from, and how they see what is left to do."""
