"""Publish a model folder on the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from utils.errors import UserError

FLAG = "--push_to_hub"


def check_hub(name: str) -> None:
    """Raise UserError where nothing could be published under this name: before hours of training, not after them."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
        HfApi().whoami()
    except HFValidationError:
        raise UserError(f"{FLAG} {name}: not a name of the hub (owner/model)") from None
    except (LocalTokenNotFoundError, HfHubHTTPError) as error:
        code = getattr(getattr(error, "response", None), "status_code", None)
        if code not in (None, 401, 403):
            raise UserError(f"{FLAG} {name}: the hub answers with error {code}; try again later") from None
        raise UserError(f"{FLAG} {name}: the hub does not know you; hf auth login") from None
    except Exception:  # no network, a firewall, HF_HUB_OFFLINE: each in a class of its own
        raise UserError(
            f"{FLAG} {name}: the hub cannot be reached; leave the flag out, and publish later (hf upload {name} FOLDER)"
        ) from None


def publish(name: str, folder: Path, say: Callable[[str], None]) -> None:
    """Upload a folder as a private model. A failure is told, since the model is safe on the disk."""
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        url = api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="A trained model with its card")
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        say(f"{FLAG} {name}: not published ({type(error).__name__}: {reason}); hf upload {name} {folder}")
    else:
        say(f"published: {url}")
