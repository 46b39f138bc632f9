"""What is kept of sessions, so that another actor can go on with them."""
