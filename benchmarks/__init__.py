"""What a call costs, beside every peer, in one process: ``python -m benchmarks``.

One file per idea, named as its policy is. `timing` runs the cases, `targets` says what to reach,
`report` and `chart` show it.
"""
