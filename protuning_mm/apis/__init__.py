"""What a person calls, from the command line or from Python."""
