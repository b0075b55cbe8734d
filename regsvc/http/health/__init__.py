"""How a process is: what probes and Prometheus are told. No web framework, so that a worker loads none."""
