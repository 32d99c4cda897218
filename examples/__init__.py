"""Programs to run, read and break."""
