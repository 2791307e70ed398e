"""The demo: real pixels from installed packages, a small source network, and a short training."""
