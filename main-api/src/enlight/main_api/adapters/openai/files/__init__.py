"""OpenAI's files: ZIPs of photos for a training."""
