"""The evidence: data, source networks, and the studies behind docs/evidence.md and docs/evidence_toys.md."""
