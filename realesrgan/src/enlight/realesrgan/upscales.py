"""What requests mean: from the routes' bodies and queries to the worker's records. No torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from werkzeug.datastructures import MultiDict

from enlight.realesrgan.models import DEFAULT_MODEL, FACE_DETECTOR, FACE_RESTORER, MODELS, needed_files
from enlight.realesrgan.requests import UpscaleRequest, UpscaleResult
from enlight.realesrgan.schemas import FileView, ModelList, ModelView, UpsamplerBody, UpscaleParameters
from enlight.servicekit.errors import InvalidField
from enlight.servicekit.http_uploads import Upload
from enlight.servicekit.images import decode_base64
from enlight.servicekit.text_options import read_options
from enlight.servicekit.weight_files import WeightFile, WeightFolder
from enlight.servicekit.worker_service import WorkerService

FILE_FIELDS = ("file", "image")
"""Names under which a form may carry the picture."""


class Upscales:
    """The upscales of this service.

    Args:
        service: Runs them.
        folder: Of the weights, to say what is there.
    """

    def __init__(self, service: WorkerService, folder: WeightFolder) -> None:
        self._service = service
        self._folder = folder

    def from_body(self, body: UpsamplerBody) -> UpscaleRequest:
        """The request that the seed's body means.

        Raises:
            InvalidField: ``denoise_strength`` with a model that has none.
            InvalidRequest: ``input_string`` is not base64.
        """
        _check_denoise_strength(body.denoise_strength, body.model_name)
        return UpscaleRequest(
            data=decode_base64(body.input_string, "input_string"),
            field="input_string",
            model_name=body.model_name,
            out_resolution_px=body.out_resolution,
            face_enhance=body.face_enhance,
            denoise_strength=body.denoise_strength,
        )

    def from_upload(self, upload: Upload, query: MultiDict[str, str]) -> UpscaleRequest:
        """The request that a file with parameters in its query, its form, or both, means.

        Raises:
            InvalidField: a parameter is unknown, given twice, out of its range, or does not suit the model.
        """
        parameters = read_options(UpscaleParameters, query, upload.form)
        _check_denoise_strength(parameters.denoise_strength, parameters.model_name)
        if parameters.quality is not None and parameters.format == "png":
            raise InvalidField.of("quality", "is for jpeg and webp only")
        return UpscaleRequest(
            data=upload.data,
            field=upload.field,
            model_name=parameters.model_name,
            out_resolution_px=parameters.out_resolution,
            face_enhance=parameters.face_enhance,
            denoise_strength=parameters.denoise_strength,
            image_format=parameters.format,
            quality=parameters.quality,
        )

    def run(self, request: UpscaleRequest, client_gone: Callable[[], bool]) -> UpscaleResult:
        """The enlarged picture; a client that leaves takes its request with it.

        Raises:
            ServiceError: as `WorkerService.run`, and what the worker says of the picture or the weights.
        """
        return cast(UpscaleResult, self._service.run(request, client_gone))

    def models(self) -> ModelList:
        """The models, and which of their files are on disk."""
        return ModelList(
            default=DEFAULT_MODEL,
            models=[
                ModelView(
                    name=spec.name,
                    scale=spec.scale,
                    description=spec.description,
                    takes_denoise_strength=spec.takes_denoise_strength,
                    weights_here=all(
                        self._folder.has(*files)
                        for files in needed_files(spec, denoise_strength=None, face_enhance=False)
                    ),
                    files=[
                        self._view(files) for files in needed_files(spec, denoise_strength=None, face_enhance=False)
                    ],
                )
                for spec in MODELS.values()
            ],
            face_enhance=[self._view((FACE_DETECTOR,)), self._view((FACE_RESTORER,))],
        )

    def _view(self, files: tuple[WeightFile, ...]) -> FileView:
        return FileView(any_of=[file.name for file in files], present=self._folder.has(*files), source=files[0].source)


def _check_denoise_strength(strength: float | None, model_name: str) -> None:
    if strength is not None and not MODELS[model_name].takes_denoise_strength:
        able = ", ".join(name for name, spec in MODELS.items() if spec.takes_denoise_strength)
        raise InvalidField.of("denoise_strength", f"is for {able} only; {model_name} does not take it")
