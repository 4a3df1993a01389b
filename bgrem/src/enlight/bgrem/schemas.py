"""Bodies and options of the HTTP routes: the seed's exact fields, ``/v1``'s, and those of rembg's own server.

The maps to the request that the worker takes are beside them, so that every default and range is read in one place.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from enlight.bgrem.options import AsJson, ColourText, RembgColourText, parse_colour
from enlight.bgrem.requests import CutoutRequest, Garment, ImageFormat, Matting, ModelName
from enlight.servicekit.errors import InvalidField
from enlight.servicekit.http_uploads import Upload
from enlight.servicekit.schemas import Answer, Base64, StrictModel
from enlight.servicekit.text_options import TRUTH, WHOLE_NUMBER

MAX_ERODE_SIZE_PX = 255

Truth = Annotated[bool, TRUTH]
Level = Annotated[int, Field(ge=0, le=255), WHOLE_NUMBER]
ErodeSize = Annotated[int, Field(ge=0, le=MAX_ERODE_SIZE_PX), WHOLE_NUMBER]


class RemoveBody(StrictModel):
    """``POST /remove`` and ``POST /remove-opacity``: the seed's fields."""

    input_image: Base64 = Field(description="PNG, JPEG, WebP or HEIC file, base64.")
    model: ModelName = Field("u2net", description="The network that finds the subject.")


class RemoveAnswer(Answer):
    """Answer of ``/remove`` and ``/remove-opacity``."""

    output_image: Base64 = Field(description="PNG file, base64.")


class CutoutOptions(BaseModel):
    """Options of ``POST /v1/cutout``, in the query or as fields of the form."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    model: ModelName = Field("u2net", description="The network that finds the subject.")
    format: ImageFormat = Field("png", description="Of the answer; `jpeg` only on a background, or for a mask.")
    quality: Annotated[int, Field(ge=1, le=100), WHOLE_NUMBER] = Field(90, description="Of `webp` and `jpeg`.")
    only_mask: Truth = Field(default=False, description="Answer with the mask: white is the subject.")
    post_process_mask: Truth = Field(default=False, description="Smooth the mask and make it black and white.")
    background: ColourText | None = Field(
        None,
        description="Colour behind the subject: `white`, `black`, `#rrggbb`, `#rrggbbaa`, `r,g,b` or `r,g,b,a`; "
        "omitted: transparent.",
    )
    alpha_matting: Truth = Field(default=False, description="Solve for hair and soft edges; slow, for small pictures.")
    alpha_matting_foreground_threshold: Level = Field(240, description="A mask above it is subject for certain.")
    alpha_matting_background_threshold: Level = Field(10, description="A mask below it is background for certain.")
    alpha_matting_erode_size: ErodeSize = Field(10, description="Pixels by which what is certain shrinks.")
    decontaminate: Truth = Field(default=False, description="Take the background's colour out of soft edges.")
    cloth_category: Garment | None = Field(
        None, description="Of u2net_cloth_seg: this mask only; omitted: upper, lower and full, one above the other."
    )

    def request(self, upload: Upload) -> CutoutRequest:
        """What the worker is asked for.

        Raises:
            InvalidField: the format cannot hold what is asked for.
        """
        background = parse_colour(self.background) if self.background else None
        if self.format == "jpeg" and not self.only_mask and (background is None or background[3] < 255):
            raise InvalidField.of("format", "jpeg has no transparency: give an opaque background, or use png or webp")
        return CutoutRequest(
            data=upload.data,
            field=upload.field,
            model=self.model,
            image_format=self.format,
            quality=self.quality,
            only_mask=self.only_mask,
            smooth_mask=self.post_process_mask,
            matting=Matting(
                self.alpha_matting_foreground_threshold,
                self.alpha_matting_background_threshold,
                self.alpha_matting_erode_size,
            )
            if self.alpha_matting
            else None,
            unmix_edges=self.decontaminate,
            background=background,
            garment=self.cloth_category,
        )


class RembgExtras(StrictModel):
    """What ``extras`` may hold: the options of the local models. Those of remote ones are unknown."""

    cc: Garment | None = None
    cloth_category: Garment | None = None
    putalpha: bool = False


def _no_vitmatte(value: bool) -> bool:
    if value:
        raise PydanticCustomError("vm", "ViTMatte is not to be had here; alpha matting (a) is")
    return value


def _no_address(value: str | None) -> str | None:
    raise PydanticCustomError("url", "is not taken: send the picture itself, as the form's file")


class RembgOptions(BaseModel):
    """Options of rembg 2.0.86's ``/api/remove``, as fields of the form or in the query."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    model: ModelName = Field("u2net", description="The network that finds the subject.")
    a: Truth = Field(default=False, description="Alpha matting.")
    af: Level = Field(240, description="Alpha matting: foreground threshold.")
    ab: Level = Field(10, description="Alpha matting: background threshold.")
    ae: ErodeSize = Field(10, description="Alpha matting: erode size.")
    om: Truth = Field(default=False, description="Only the mask.")
    ppm: Truth = Field(default=False, description="Post-process the mask.")
    dc: Truth = Field(default=False, description="Decontaminate the edges.")
    vm: Annotated[Truth, AfterValidator(_no_vitmatte)] = Field(
        default=False, description="ViTMatte; not here, so that true is refused."
    )
    bgc: RembgColourText = Field(None, description="Background colour, `r,g,b,a`.")
    extras: Annotated[RembgExtras, AsJson] = Field(
        RembgExtras(), description='JSON text of `cc` (or `cloth_category`) and `putalpha`: `{"cc": "upper"}`.'
    )
    url: Annotated[str | None, AfterValidator(_no_address)] = Field(
        None, description="Not taken: nothing is fetched from elsewhere."
    )

    def request(self, upload: Upload) -> CutoutRequest:
        """What the worker is asked for. With ``putalpha`` the edges' colours are kept, as they always are here."""
        return CutoutRequest(
            data=upload.data,
            field=upload.field,
            model=self.model,
            only_mask=self.om,
            smooth_mask=self.ppm,
            matting=Matting(self.af, self.ab, self.ae) if self.a else None,
            unmix_edges=self.dc and not self.extras.putalpha,
            background=parse_colour(self.bgc) if self.bgc else None,
            keep_alpha=True,
            garment=self.extras.cc or self.extras.cloth_category,
        )


class RembgUrlQuery(BaseModel):
    """Query of ``GET /api/remove``, which is refused."""

    url: str | None = Field(None, description="Not taken.")


class ModelView(Answer):
    """One network."""

    name: str
    description: str
    weights_here: bool = Field(description="Whether its file is in the weights folder.")
    weights_file: str = Field(description="The file that it needs.")
    weights_sha256: str | None
    weights_source: str = Field(description="How to get the file.")
    default: bool = Field(description="Used where a request names none.")


class ModelList(Answer):
    """The networks of this service."""

    models: list[ModelView]
