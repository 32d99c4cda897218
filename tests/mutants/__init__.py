"""The list of mutants: for each rule one that breaks it alone, and the test that kills it."""
