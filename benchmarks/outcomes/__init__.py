"""What users get when a dependency fails: whole outages in virtual time, beside the peers.

`service` is the simulated dependency, `faults` what befalls it, `contenders` what the clients put
between, `scenario` runs one outage, `verdicts` reads it, `report` and `plot` show it.
"""
