"""Objects followed from frame to frame: a tracker, and the lines and zones that they cross. Arrays in, values out."""
