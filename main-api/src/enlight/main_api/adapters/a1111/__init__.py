"""The routes of AUTOMATIC1111's web UI, ``/sdapi/v1``: a trained model is a checkpoint and a LoRA to its clients."""
