"""Studies, benchmarks, comparisons and figures for papers; a user of a trained model needs none of it."""
