from __future__ import annotations

import pytest

from artifact.uri import ArtifactUri, split_gs

KEY = "0123456789abcdef0123"


@pytest.mark.parametrize("text", [f"gs://team-models/models/{KEY}/", f"gs://b.x/deep/er/models/{KEY}/"])
def test_an_address_reads_back(text: str) -> None:
    uri = ArtifactUri.parse(text)
    assert str(uri) == text
    assert uri.key == KEY
    assert ArtifactUri.parse(text.rstrip("/")) == uri


@pytest.mark.parametrize("root", ["gs://bucket", "gs://bucket/", "gs://bucket/a/b/"])
def test_an_address_below_a_root(root: str) -> None:
    uri = ArtifactUri.under(root, KEY)
    assert str(uri) == f"{root.rstrip('/')}/models/{KEY}/"
    assert uri.object("manifest.json") == str(uri).removeprefix("gs://bucket/") + "manifest.json"


@pytest.mark.parametrize(
    "text",
    ["", "bucket", "s3://bucket/models/" + KEY, "gs://bucket/models/", f"gs://bucket/{KEY}/", "gs://B/models/" + KEY,
     f"gs://bucket/models/{KEY}/manifest.json", f"gs:///models/{KEY}/", f"gs://bucket/models/{KEY.upper()}/"],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be gs://"):
        ArtifactUri.parse(text)


def test_a_root_is_split() -> None:
    assert split_gs("gs://bucket/a/b") == ("bucket", "a/b")
    assert split_gs("gs://bucket") == ("bucket", "")
