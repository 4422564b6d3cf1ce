"""What a request for an upscaling sends: a form, and the picture that it brings or names."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, BinaryIO, cast

from fastapi import File, Form, Request, UploadFile

from trustscale_server.http.forms import Webhook
from trustscale_server.http.state import State
from trustscale_server.images.sandbox.client import ImageFile
from trustscale_server.platform.errors import BadRequest, NotFound
from trustscale_server.serving.request import UpscaleOptions
from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.stores.uploads import IMAGE, direct_folder


class UpscaleForm(UpscaleOptions):
    """The picture, and the options of its upscaling."""

    image: Annotated[
        UploadFile | None,
        File(
            description="PNG, JPEG, WebP, AVIF, TIFF, BMP or still GIF; HEIC and JPEG XL with the "
            "extra `formats`."
        ),
    ] = None
    enlarged: Annotated[
        UploadFile | None,
        File(
            description="What somebody made of the image, for an upscaler of the kind `supplied`."
        ),
    ] = None
    image_url: Annotated[
        str | None,
        Form(
            max_length=2000,
            description="The address of the image, in place of `image`, on a host that the "
            "service allows.",
        ),
    ] = None
    upload: Annotated[
        str | None,
        Form(
            pattern=r"^[A-Za-z0-9_-]{1,64}$",
            description="The id of a file that was sent to a link of `POST /v1/uploads`, in "
            "place of `image`.",
        ),
    ] = None
    webhook: Webhook = None
    calibration: Annotated[
        str | None,
        Form(
            max_length=200,
            description="For an admin: the id of a calibration that answers in place of the active "
            "ones, to try it before it is activated.",
        ),
    ] = None


async def raise_if_sent_twice(request: Request) -> None:
    """Raise BadRequest where a form sends two files in one field: one would be ignored."""
    names = Counter(name for name, _ in (await request.form()).multi_items())
    for name in ("image", "enlarged"):
        if names[name] > 1:
            reason = f"one file is needed, and {names[name]} were sent"
            raise BadRequest(f"{name}: {reason}.", fields=[{"field": name, "reason": reason}])


@dataclass(slots=True)
class SentPicture:
    """The picture of a form, or of the place that the form names; `key` is the client's."""

    form: UpscaleForm
    state: State
    key: str | None
    _fetched: ImageFile | None = field(default=None, init=False)

    def raise_if_unusable(self, *, as_job: bool) -> None:
        """Raise BadRequest unless there is exactly one, and it and the webhook are allowed."""
        names = ("image", "image_url", "upload")
        sent = [name for name in names if getattr(self.form, name) is not None]
        if len(sent) > 1:
            raise BadRequest(f"Send only one of {', '.join(sent)}.")
        if not sent:
            reason = "this is missing; send a form with the file, with curl: -F image=@FILE"
            raise BadRequest(f"image: {reason}.", fields=[{"field": "image", "reason": reason}])
        if self.form.image_url is not None:
            self.state.services.settings.image_sources.raise_if_refused()
        if self.form.webhook is not None:
            self.state.services.settings.webhooks.raise_if_refused(self.form.webhook, is_job=as_job)

    async def open(self, *, for_reading_again: bool) -> ImageFile:
        """Return the file.

        for_reading_again: a file that was fetched is kept for `read`.

        Raises BadRequest, ImageTooLarge, NotFound.
        """
        if self.form.image is not None:
            return self.form.image.file
        async with self.state.context.fetching.held():
            file = await self._fetch()
        self._fetched = file if for_reading_again else None
        return file

    @property
    def enlarged(self) -> Callable[[], Awaitable[ImageFile]] | None:
        """Returns the file that somebody made of the picture; None: none was sent."""
        enlarged = self.form.enlarged
        if enlarged is None:
            return None

        async def opened() -> ImageFile:
            return enlarged.file

        return opened

    @property
    def read_enlarged(self) -> Callable[[], Awaitable[bytes]] | None:
        """Reads the whole of that file; None: none was sent."""
        enlarged = self.form.enlarged
        if enlarged is None:
            return None

        async def read() -> bytes:
            await enlarged.seek(0)
            return await enlarged.read()

        return read

    async def _fetch(self) -> ImageFile:
        settings = self.state.services.settings
        if self.form.upload is None:
            url = self.form.image_url or ""
            file = await settings.image_sources.fetch(url, settings.max_upload_bytes)
            return cast("BinaryIO", file)
        try:
            return await self.state.services.stores.blobs.get(
                self._folder, IMAGE, most=settings.max_upload_bytes
            )
        except NotFound:
            raise NotFound(
                f"There is no upload {self.form.upload!r} of yours: it was not sent, or was used."
            ) from None

    @property
    def _folder(self) -> str:
        return direct_folder(self.key, self.form.upload or "")

    async def forget(self) -> None:
        """Remove the upload from the object store once it has been used."""
        if self.form.upload is not None:
            with suppress(StoreUnavailable):  # a sweep will remove it
                await self.state.services.stores.blobs.delete(self._folder)

    async def read(self) -> bytes:
        """Return the whole file again."""
        if self.form.image is not None:
            await self.form.image.seek(0)
            return await self.form.image.read()
        file = self._fetched or b""
        if isinstance(file, bytes):
            return file
        await asyncio.to_thread(file.seek, 0)
        return await asyncio.to_thread(file.read)
