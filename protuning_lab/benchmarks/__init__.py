"""What frozen execution, deltas and many tasks cost, measured in turn."""
