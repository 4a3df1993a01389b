"""Errors that several routes have; those that every route has are in the page's last table only."""

from __future__ import annotations

from api_docs.route import Errors

from enlight.servicekit.errors import (
    BrokenImage,
    CorruptModel,
    ImageTooLarge,
    InvalidRequest,
    NotFound,
    QueueFull,
    UnsupportedImage,
    UpstreamFailed,
    UpstreamTimeout,
    WeightsUnavailable,
    WorkerUnavailable,
)

BAD_PICTURE: Errors = ((InvalidRequest, ""), (BrokenImage, ""), (ImageTooLarge, ""), (UnsupportedImage, ""))
BUSY: Errors = ((QueueFull, ""), (WorkerUnavailable, ""), (UpstreamTimeout, ""))
BEHIND: Errors = (*BUSY, (UpstreamFailed, ""))
"""Of main-api's routes that another service answers."""
NO_WEIGHTS: Errors = ((WeightsUnavailable, ""),)
NO_MODEL: Errors = ((NotFound, "no such model"), (CorruptModel, ""), *NO_WEIGHTS)
NO_TRAINING: Errors = ((NotFound, "no such training"),)
FOLLOWING: Errors = (
    *NO_TRAINING,
    (InvalidRequest, "`Last-Event-ID` is no event's"),
    (QueueFull, "as many streams as may are open"),
)
UPSCALER_IS_NOT_HERE = (
    WeightsUnavailable,
    "until the model is fetched ([upsampler/README.md](../upsampler/README.md))",
)
