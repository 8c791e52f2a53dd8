"""What happens, for whoever asks: event types, the bus that carries them, and `explain`."""
