"""Provenance: what lies in a run folder, proved by hashes; records only as keyed ones."""
