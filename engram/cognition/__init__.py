"""How a cue finds memories: matching, scoring, confidence."""
