"""How a cue finds memories (matching, scoring, confidence) and how it is filled in by them."""
