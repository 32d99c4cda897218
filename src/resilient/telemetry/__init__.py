"""Pull what policies counted into other systems; each module needs its own extra."""
