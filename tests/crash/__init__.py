"""What survives: crashes, failing calls and damaged bytes, on the simulated disk."""
