"""Backends, one file each, imported only when named."""
