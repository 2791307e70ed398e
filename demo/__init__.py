"""The demo: real pixels that installed packages carry, a small source network, one short training."""
