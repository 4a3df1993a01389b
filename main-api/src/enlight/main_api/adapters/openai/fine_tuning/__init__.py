"""OpenAI's fine-tuning jobs, which are trainings."""
