"""Whether this installation still gives right results: from decoder to Redis, in every runtime and precision here.

Films of made-up worlds, whose truth is known, go through everything that a user's cameras go through; what comes out of
Redis is measured, and compared with what was recorded on a machine that is right.
"""
