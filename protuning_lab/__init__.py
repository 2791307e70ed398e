"""Studies, benchmarks, comparisons of runs and figures for papers. Using a trained model does not need this package."""
