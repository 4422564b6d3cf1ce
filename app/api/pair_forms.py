"""The form that brings pairs: its settings, its files, their groups and scenes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, File, Form, UploadFile
from pydantic import ValidationError

from app.api.jobs import Webhook
from app.calibration.archive import ArchiveLimits
from app.calibration.config import CalibrationConfig
from app.calibration.folder import FOLDER
from app.calibration.groups import parse_groups, parse_scenes
from app.calibration.layout import Role
from app.calibration.uploads import Naming, Upload, archive_files, form_file
from app.errors import BadRequest, ImageTooLarge
from app.mistakes import field_names, reason, together

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

    groups: Annotated[
        str, Form(description="The group of each pair: JSON {NAME: GROUP}, or CSV with name,group.")
    ] = ""
    scenes: Annotated[
        str,
        Form(
            description="What belongs together (crops of one photograph, frames of one camera "
            'run): JSON {NAME: SCENE}, CSV with name,scene, or "folder" where folders are scenes.'
        ),
    ] = ""
    archive: Annotated[UploadFile | None, File(description="zip or tar")] = None
    x: Annotated[list[UploadFile] | None, File()] = None
    y: Annotated[list[UploadFile] | None, File()] = None
    webhook: Webhook = None

    def naming(self) -> Naming:
        """The groups and scenes of the pairs.

        Raises:
            BadRequest: neither JSON nor CSV, or a name that cannot be that of a group or scene.
        """
        if self.scenes.strip() == FOLDER:
            return Naming(parse_groups(self.groups), scene_folders=True)
        return Naming(parse_groups(self.groups), parse_scenes(self.scenes))

    def files(self) -> Iterator[Upload]:
        """The uploaded files, read one at a time from where the form parser has put them."""
        if self.archive is None:
            return _form_files({"x": self.x or [], "y": self.y or []})
        if self.x or self.y:
            raise BadRequest("Send either archive, or files x and y.")
        return archive_files(self.archive.file, ArchiveLimits())


PairsFormDep = Annotated[PairsForm, Depends()]


def _form_files(files: dict[Role, list[UploadFile]]) -> Iterator[Upload]:
    for role, uploads in files.items():
        for upload in uploads:
            name = upload.filename
            if not name:
                raise BadRequest(f"A file of {role} has no name; pairs are matched by name.")
            data = upload.file.read(MAX_FILE_BYTES + 1)
            if len(data) > MAX_FILE_BYTES:
                raise ImageTooLarge(
                    f"{name[:80]!r} has more than {MAX_FILE_BYTES:,} bytes.",
                    limit="max_file_bytes",
                    maximum=MAX_FILE_BYTES,
                )
            yield form_file(role, name, data)
