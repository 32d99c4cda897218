"""The kit for tests: async tests on virtual time, scripts, laws and the machine."""
