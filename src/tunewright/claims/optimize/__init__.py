"""Claims about optimizers, schedules and which layers train."""
