"""What a memory is, its events, and the state they add up to. Pure: no clock, no I/O."""
