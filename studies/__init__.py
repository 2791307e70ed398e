"""The evidence: data from real pixels, source networks, and the studies that docs/evidence.md rests on."""
