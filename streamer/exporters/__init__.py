"""How the streamer says how it is doing."""
