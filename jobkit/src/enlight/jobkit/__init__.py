"""What the gateway and the GPU workers share about a job."""
