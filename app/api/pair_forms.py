"""The form that brings pairs: its settings, its files, their groups and scenes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import Depends, File, Form, UploadFile
from pydantic import ValidationError

from app.api.jobs import Webhook
from app.calibration.archive import ArchiveLimits, archive_files
from app.calibration.config import CalibrationConfig
from app.calibration.layout import NamedFile, Role
from app.calibration.naming import Naming
from app.config_errors import field_names, reason, together
from app.errors import BadRequest, ImageTooLarge

_TAGS = {(1, "steps"), (1, "mixture")}  # behind "degradation"

MAX_FILE_BYTES = 256 * 1024 * 1024


def config_of(text: str) -> CalibrationConfig:
    """The settings of a calibration from JSON.

    Raises:
        BadRequest: not JSON, or a field that cannot be used; `fields` names each.
    """
    try:
        return CalibrationConfig.model_validate_json(text)
    except ValidationError as error:
        known = field_names(CalibrationConfig)
        items = [
            {"field": _field(item["loc"]), "reason": reason(item, known)}
            for item in error.errors(include_url=False)
        ]
        detail = together((item["field"], item["reason"]) for item in items)
        raise BadRequest(f"config: {detail}", fields=items) from error


def _field(place: tuple[int | str, ...]) -> str:
    """The name of a field as JSON has it, without the tag that tells which form it is in."""
    names = [str(name) for k, name in enumerate(place) if (k, name) not in _TAGS]
    return ".".join(names) or "config"


@dataclass(frozen=True, slots=True)
class PairsForm:
    """The fields of a form that bring pairs."""

    manifest: Annotated[
        UploadFile | None,
        File(
            description="CSV whose column name or file names the pairs, others what they belong "
            "to; default: manifest.csv in the archive."
        ),
    ] = None
    group_by: Annotated[
        str | None,
        Form(description="What names groups: folder, or a column of the manifest."),
    ] = None
    scene_by: Annotated[
        str | None,
        Form(
            description="What names scenes (crops of one photograph, frames of one camera run): "
            "folder, manifest, or a column of it."
        ),
    ] = None
    archive: Annotated[UploadFile | None, File(description="zip, tar or tar.gz")] = None
    x: Annotated[list[UploadFile] | None, File()] = None
    y: Annotated[list[UploadFile] | None, File()] = None
    webhook: Webhook = None

    @property
    def naming(self) -> Naming:
        """What names the groups and scenes of the pairs."""
        return Naming(self.group_by or None, self.scene_by or None)

    def table(self) -> bytes | None:
        """The table that came as a file of the form."""
        return None if self.manifest is None else _content(self.manifest)

    def files(self) -> Iterator[NamedFile]:
        """The uploaded files, read one at a time from where the form parser has put them."""
        if self.archive is None:
            return _form_files({"x": self.x or [], "y": self.y or []})
        if self.x or self.y:
            raise BadRequest("Send either archive, or files x and y.")
        return archive_files(self.archive.file, ArchiveLimits())


PairsFormDep = Annotated[PairsForm, Depends()]


def _form_files(files: dict[Role, list[UploadFile]]) -> Iterator[NamedFile]:
    for role, uploads in files.items():
        for upload in uploads:
            if not upload.filename:
                raise BadRequest(f"A file of {role} has no name; pairs are matched by name.")
            yield NamedFile(f"{role}/{upload.filename}", partial(_content, upload), role)


def _content(upload: UploadFile) -> bytes:
    """All of an uploaded file. Raises ImageTooLarge."""
    upload.file.seek(0)
    data = upload.file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ImageTooLarge(
            f"{str(upload.filename)[:80]!r} has more than {MAX_FILE_BYTES:,} bytes.",
            limit="max_file_bytes",
            maximum=MAX_FILE_BYTES,
        )
    return data
