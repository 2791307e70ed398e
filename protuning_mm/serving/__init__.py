"""An HTTP server for many tasks on one frozen backbone; it needs the extra ``serve``."""
