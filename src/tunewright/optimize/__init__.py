"""How training moves the parameters: optimizers, schedules, and which layers train when."""
