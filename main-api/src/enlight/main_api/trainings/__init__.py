"""From a training's body to a job, and what its caller sees of it."""
