"""Where a model lies: a folder, or what the hub gave; one line where it cannot be used."""

from __future__ import annotations

from errno import ENOSPC
from pathlib import Path

from utils.errors import DISK_ERRORS, PATH_ERRORS, UserError

SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
PLAIN = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_TEXT_FILES = ["*.json", "*.txt", "*.model"]
_POINTER = b"version https://git-lfs"
_OF_A_RUN = ("final_model", "best_model")
EXPORT_NOTE = "export.json"  # in the folder of an exported model (models/exported)


def _download(name: str, patterns: list[str], flag: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except HFValidationError:
        raise UserError(f"{flag} {name}: no such folder, and not a hub name (owner/model)") from None
    except GatedRepoError:
        raise UserError(
            f"{flag} {name}: the hub gives it to those alone who accepted its terms; hf auth login"
        ) from None
    except RepositoryNotFoundError:
        raise UserError(f"{flag} {name}: no such folder, and the hub has no model of that name") from None
    except OSError as error:
        # Without the name of a file it is a socket that a firewall forbids; a full disk often comes without one, too.
        if error.errno in DISK_ERRORS | PATH_ERRORS and (error.filename or error.errno == ENOSPC):
            place = error.filename or "the cache"
            raise UserError(
                f"{flag} {name}: the download cannot be written ({place}: {error.strerror}); fix this, or set HF_HOME"
                " to a folder with room"
            ) from None
        offline = " or scratch:small" if flag == "--model_name" else ""
        raise UserError(
            f"{flag} {name}: not on disk and the hub cannot be reached; download it where there is a network "
            f"(hf download {name}) or use a local folder{offline}"
        ) from None


def refuse_pointers(folder: Path, name: str, flag: str) -> None:
    """Refuse a clone without its large files: Git leaves a few lines of text in place of each."""
    for pattern in (*_TEXT_FILES, "*.safetensors", "*.bin"):
        for file in sorted(folder.glob(pattern)):
            with file.open("rb") as handle:
                if handle.read(len(_POINTER)) == _POINTER:
                    raise UserError(f"{flag} {name}: {file} is a Git LFS pointer, not the file; run git lfs pull")


def find_model_folder(name: str, flag: str = "--model_name", weights: bool = True) -> Path:
    """The folder that holds model ``name`` (a folder or a hub name), downloaded if necessary.

    Raises UserError in one line: no such model, not on disk and no network, no weights that can be read.
    """
    folder = Path(name).expanduser()
    local = folder.is_dir()
    if not local:
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise UserError(f"{flag} {name}: no such folder")
        folder = _download(name, [*_TEXT_FILES, *(["*.safetensors"] if weights else [])], flag)
    if (folder / EXPORT_NOTE).is_file():
        raise UserError(f"{flag} {name}: an exported model, which can only write; give the original")
    if not (folder / "config.json").is_file():
        for part in _OF_A_RUN:
            if (folder / part / "config.json").is_file():
                raise UserError(f"{flag} {name}: the folder of a run; its model is {folder / part}")
        raise UserError(f"{flag} {name}: the folder holds no config.json, so it is not a Hugging Face model")
    if weights and not _holds(folder, SAFETENSORS):
        if not local:
            folder = _download(name, [*_TEXT_FILES, "pytorch_model*.bin"], flag)
        if not _holds(folder, PLAIN):
            raise UserError(f"{flag} {name}: neither {SAFETENSORS[0]} nor {PLAIN[0]} in {folder}")
    refuse_pointers(folder, name, flag)
    return folder


def _holds(folder: Path, names: tuple[str, ...]) -> bool:
    return any((folder / name).is_file() for name in names)


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, and no other .bin files, such as an optimiser's."""
    return sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
