"""What happens in a step, and the state that it changes."""
