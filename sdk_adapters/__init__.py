"""Foreign wires that we answer, our client libraries, and the load harness."""
