"""What a request for a calibration sends: its settings as JSON, and pairs of pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final

from fastapi import File, Form, UploadFile
from pydantic import ValidationError

from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibrating.create import Submission
from trustscale_server.calibrating.intake.archive import ArchiveLimits, archive_files
from trustscale_server.calibrating.intake.grouping import GroupingRule
from trustscale_server.calibrating.intake.layout import NamedFile
from trustscale_server.calibrating.pair_source import Role
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.http.forms import Webhook
from trustscale_server.platform.config_errors import field_names, in_one_sentence, reason
from trustscale_server.platform.errors import BadRequest, ImageTooLarge

MAX_ARCHIVE_BYTES: Final = 64 * 1024**3
MAX_FILE_BYTES: Final = 256 * 1024 * 1024

FORCE: Final = "Activate it also if it would serve worse."


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
        str | None, Form(description="What names groups: folder, or a column of the manifest.")
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
    enlarged: Annotated[
        list[UploadFile] | None,
        File(description="For an upscaler of the kind `supplied`: what it made of each x."),
    ] = None
    webhook: Webhook = None
    dry_run: Annotated[
        bool,
        Form(
            description="Check the pairs and say what they would take; nothing is stored or "
            "generated."
        ),
    ] = False

    def submission(self, actor: str, parent: Calibration | None = None) -> Submission:
        """Return what the form brings to calibrate with."""
        return Submission(
            self.files,
            actor,
            GroupingRule(self.group_by or None, self.scene_by or None),
            None if self.manifest is None else _content(self.manifest),
            parent,
        )

    def files(self) -> Iterator[NamedFile]:
        """Yield the uploaded files, read one at a time. Raises BadRequest, ImageTooLarge."""
        if self.archive is None:
            return _form_files({"x": self.x, "y": self.y, "enlarged": self.enlarged})
        if self.x or self.y or self.enlarged:
            raise BadRequest("Send either archive, or files x, y and enlarged.")
        return archive_files(self.archive.file, ArchiveLimits())


@dataclass(frozen=True, slots=True)
class MorePairsForm(PairsForm):
    """The fields of a form that bring further pairs, and what is done with the result."""

    activate: Annotated[bool, Form()] = False
    force: Annotated[bool, Form(description=FORCE)] = False


def calibration_config_of(text: str) -> CalibrationConfig:
    """Return the settings of a calibration from JSON.

    Raises:
        BadRequest: not JSON, or a field that cannot be used; `fields` names each.
    """
    try:
        return CalibrationConfig.model_validate_json(text)
    except ValidationError as error:
        known = field_names(CalibrationConfig)
        items = [
            {"field": _field_name(item["loc"]), "reason": reason(item, known)}
            for item in error.errors(include_url=False)
        ]
        detail = in_one_sentence((item["field"], item["reason"]) for item in items)
        raise BadRequest(f"config: {detail}", fields=items) from error


def _field_name(location: tuple[int | str, ...]) -> str:
    """The name of a field as JSON has it, without pydantic's tags of the forms it can have."""
    tags = {(1, "steps"), (1, "mixture")}  # behind "degradation"
    names = [str(name) for depth, name in enumerate(location) if (depth, name) not in tags]
    return ".".join(names) or "config"


def _form_files(files: Mapping[Role, list[UploadFile] | None]) -> Iterator[NamedFile]:
    for role, uploads in files.items():
        for upload in uploads or ():
            if not upload.filename:
                raise BadRequest(f"A file of {role} has no name; pairs are matched by name.")
            yield NamedFile(f"{role}/{upload.filename}", partial(_content, upload), role)


def _content(upload: UploadFile) -> bytes:
    upload.file.seek(0)
    data = upload.file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ImageTooLarge(
            f"{str(upload.filename)[:80]!r} has more than {MAX_FILE_BYTES:,} bytes.",
            limit="max_file_bytes",
            maximum=MAX_FILE_BYTES,
        )
    return data
