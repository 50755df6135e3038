"""What a memory is, the events that make it, and the state they add up to. Pure: no clock, no I/O."""
